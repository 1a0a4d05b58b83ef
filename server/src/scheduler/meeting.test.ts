import { createHash } from 'node:crypto'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { api } from '@orbyte/protocol'
import type { ScriptedAgent } from '../agents/fixture-agent.ts'
import { type Market, startMarket } from '../fixture-market.ts'
import { outcome, type TestUser } from '../fixture-server.ts'
import { heldDatabase, type HeldDatabase } from './fixture-held-database.ts'

// What is decided about an attempt while something else about it is on its way to the disk.

let database: HeldDatabase
let market: Market
let alice: TestUser
let bob: TestUser
let agent: ScriptedAgent
beforeEach(async () => {
  database = heldDatabase()
  market = await startMarket({ outside: { database } })
  alice = await market.person('100')
  bob = await market.person()
  agent = await market.machine(bob)
})
afterEach(() => {
  database.letGo()
  return market.close()
})

const completed = { outcome: 'completed', run_ms: 0, output_data: {}, code: 'completed', message: '', fault: null }
const openAttempts = () => market.context.database.read((reader) => reader.all('SELECT id FROM open_attempts'))

type Start = Awaited<ReturnType<ScriptedAgent['begin']>>

/** All at once, where the first cannot be kept; then all again by the agent when it is back. How it was welcomed. */
async function sayTwice(start: Start, all: readonly object[], between = async () => {}) {
  const said = all.map((message, index) => ({ ...message, seq: agent.machine.seq + 1 + index }))
  database.failNext()
  for (const message of said) agent.send(message)
  expect(await agent.next('refused')).toMatchObject({ code: 'not_handled', retry: true })
  await between()
  const back = await market.reconnect(agent, { attempts: [{ ...agent.ref(start), status: 'ended', run_ms: 0 }] })
  for (const message of said) back.send(message)
  await back.acked(said.at(-1)!.seq)
  return back.welcome
}

/** A task whose one GPU has refused it, and may be asked again in a second. */
async function refused() {
  const { id } = await market.submit(alice)
  await agent.refuse(await agent.next('attempt.start'))
  for (const seconds of [10, 10, 9]) {
    market.clock.advance(seconds * 1_000)
    await agent.heartbeat()
  }
  return id
}

test('an offer that meets the cancel of its task leaves no open attempt, and its agent is told to stop', async () => {
  const id = await refused()
  database.hold()
  const cancelled = market.attempt(alice, api.tasks.cancel, { task_id: id })
  await database.asked(1)
  market.clock.advance(1_000)
  const start = await agent.next('attempt.start')
  database.letGo()
  expect(outcome(await cancelled)).toBe('200')
  expect(await agent.next('attempt.stop')).toMatchObject(agent.ref(start))
  await agent.accept(start)
  expect(await openAttempts()).toEqual([])
  expect(await market.task(alice, id)).toMatchObject({ status: 'cancelled', attempts: [{ status: 'refused' }] })
  const next = await market.submit(alice)
  expect(await agent.next('attempt.start')).toMatchObject({ task_id: next.id })
})

test('a result that arrives while a reclaim is being written is acknowledged and changes nothing', async () => {
  const { id } = await market.submit(alice)
  const start = await agent.begin()
  market.clock.advance(900)
  database.hold()
  const reclaimed = market.ask(bob, api.gpus.reclaim, { gpu_id: agent.gpuId })
  await database.asked(1)
  database.letGo(1)
  await database.asked(2)
  const told = agent.result(start, { run_ms: 900 })
  // Answered after what was said before.
  await agent.heartbeat()
  database.letGo()
  await Promise.all([reclaimed, told])
  expect(agent.isOpen()).toBe(true)
  expect(await market.task(alice, id)).toMatchObject({
    status: 'pending',
    attempts: [{ status: 'failed', cost: '0', end: { code: 'reclaimed' } }],
  })
  await market.ask(bob, api.gpus.update, { gpu_id: agent.gpuId, maintenance: false })
  expect((await market.ask(null, api.gpus.get, { gpu_id: agent.gpuId })).status).toBe('available')
})

test('what arrives while a reclaim is being written, and the reclaim itself, are answered when it is, and not before', async () => {
  await market.submit(alice)
  const start = await agent.begin()
  database.hold()
  const reclaimed = market.ask(bob, api.gpus.reclaim, { gpu_id: agent.gpuId })
  await database.asked(1)
  database.letGo(1)
  await database.asked(2)
  let isAnswered = false
  void reclaimed.then(() => (isAnswered = true))
  let isAcknowledged = false
  const told = agent.output(start, 0, 'late').then(() => (isAcknowledged = true))
  // Answered after what was said before.
  await agent.heartbeat()
  expect([isAcknowledged, isAnswered]).toEqual([false, false])
  database.letGo()
  await Promise.all([reclaimed, told])
})

test('what becomes durable together is acknowledged once', async () => {
  await market.submit(alice)
  const start = await agent.next('attempt.start')
  const { seq } = agent.machine
  const before = agent.untaken('ack').length
  database.hold()
  agent.send({ type: 'attempt.accepted', seq: seq + 1, ...agent.ref(start) })
  agent.send({ type: 'attempt.ready', seq: seq + 2, ...agent.ref(start) })
  // Answered once both are here.
  await agent.heartbeat()
  database.letGo()
  await agent.acked(seq + 2)
  expect(agent.untaken('ack').slice(before)).toEqual([{ type: 'ack', seq: seq + 2 }])
})

test('a result rests on what was said before it: where that could not be kept, both count once they are said again', async () => {
  const { id } = await market.submit(alice)
  const start = await agent.begin()
  const said = [
    { type: 'attempt.output', ...agent.ref(start), offset: 0, text: 'the answer', run_ms: 0 },
    { type: 'attempt.result', ...agent.ref(start), ...completed },
  ]
  const { attempts } = await sayTwice(start, said, async () =>
    expect(await market.task(alice, id)).toMatchObject({ status: 'running' }),
  )
  expect(attempts).toMatchObject([{ action: 'keep' }])
  expect(await market.task(alice, id)).toMatchObject({ status: 'completed' })
  const { body } = await market.call(`GET /api/tasks/${id}/output`, { token: alice.token })
  expect(body).toBe('the answer')
})

test('output that rests on what could not be kept is not acknowledged, though a result is on its way to the disk', async () => {
  const { id } = await market.submit(alice)
  const start = await agent.next('attempt.start')
  await agent.accept(start)
  const said = [
    { type: 'attempt.ready', ...agent.ref(start) },
    { type: 'attempt.output', ...agent.ref(start), offset: 0, text: 'the answer', run_ms: 0 },
    { type: 'attempt.result', ...agent.ref(start), ...completed },
  ]
  await sayTwice(start, said)
  expect(await market.task(alice, id)).toMatchObject({ status: 'completed' })
  const { body } = await market.call(`GET /api/tasks/${id}/output`, { token: alice.token })
  expect(body).toBe('the answer')
})

test('a result rests on what was said before a file that it has waited for', async () => {
  const { id } = await market.submit(alice)
  const start = await agent.begin()
  const text = Buffer.from('a file')
  const file = {
    name: 'a.txt',
    mime_type: 'text/plain',
    size_bytes: text.length,
    offset: 0,
    data: text.toString('base64'),
  }
  const sha256 = createHash('sha256').update(text).digest('hex')
  const said = [
    { type: 'attempt.output', ...agent.ref(start), offset: 0, text: 'the answer', run_ms: 0 },
    { type: 'attempt.file', ...agent.ref(start), ...file, sha256, run_ms: 0 },
    { type: 'attempt.result', ...agent.ref(start), ...completed },
  ]
  await sayTwice(start, said)
  expect(await market.task(alice, id)).toMatchObject({ status: 'completed', files: [{ name: 'a.txt' }] })
  const { body } = await market.call(`GET /api/tasks/${id}/output`, { token: alice.token })
  expect(body).toBe('the answer')
})

test('an agent that comes back is let in once all that it had said before is dealt with', async () => {
  await market.submit(alice)
  const start = await agent.begin()
  database.hold()
  agent.send({
    type: 'attempt.output',
    ...agent.ref(start),
    seq: agent.machine.seq + 1,
    offset: 0,
    text: 'a',
    run_ms: 0,
  })
  await database.asked(1)
  await agent.disconnect()
  const back = market.reconnect(agent, { attempts: [{ ...agent.ref(start), status: 'running', run_ms: 0 }] })
  let isBeingLetIn = false
  void database.asked(2).then(() => (isBeingLetIn = true))
  for (let times = 0; times < 20; times++) await market.call('GET /api/gpus/', {})
  expect(isBeingLetIn).toBe(false)
  database.letGo()
  expect((await back).welcome.acked_seq).toBe(agent.machine.seq + 1)
})

test('a result whose acceptance could not be kept does not end the attempt for one half only', async () => {
  const { id } = await market.submit(alice)
  const start = await agent.next('attempt.start')
  const said = [
    { type: 'attempt.accepted', ...agent.ref(start) },
    { type: 'attempt.ready', ...agent.ref(start) },
    { type: 'attempt.result', ...agent.ref(start), ...completed },
  ]
  await sayTwice(start, said)
  expect(await market.task(alice, id)).toMatchObject({ status: 'completed', attempts: [{ status: 'completed' }] })
})

test('a task that ends before its input has been read is offered to nobody', async () => {
  const id = await refused()
  database.hold()
  const cancelled = market.attempt(alice, api.tasks.cancel, { task_id: id })
  await database.asked(1)
  const reading = database.holdReads()
  market.clock.advance(1_000)
  await reading
  database.letGo()
  expect(outcome(await cancelled)).toBe('200')
  database.letReadsGo()
  const next = await market.submit(alice)
  expect(await agent.next('attempt.start')).toMatchObject({ task_id: next.id })
  expect(await market.task(alice, id)).toMatchObject({ status: 'cancelled', attempts: [{ status: 'refused' }] })
})

test('all tasks that have waited too long are given up in one commit', async () => {
  await agent.disconnect()
  const wait = { wait: true, max_price_per_hour: '1', max_wait_ms: 5_000 }
  const tasks = await Promise.all([1, 2, 3, 4].map(() => market.submit(alice, wait)))
  database.hold()
  for (let seconds = 0; seconds < 8; seconds++) {
    market.clock.advance(1_000)
    await new Promise((resolve) => setImmediate(resolve))
  }
  database.letGo(1)
  const ended = { status: 'failed', end: { code: 'no_gpu_found' } }
  await market.until(
    () => market.task(alice, tasks[0]!.id),
    ({ status }) => status === 'failed',
  )
  for (const { id } of tasks) expect(await market.task(alice, id)).toMatchObject(ended)
  database.letGo()
})
