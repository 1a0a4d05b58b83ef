import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { randomBytes, createHash } from 'node:crypto'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { api } from '@orbyte/protocol'
import { deviceWire, newMachine, type ScriptedAgent, type Start } from '../agents/fixture-agent.ts'
import { type Market, startMarket } from '../fixture-market.ts'
import { outcome, type TestUser } from '../fixture-server.ts'

// What a market knows after it was stopped is what it had on disk; the agents come back or do not.

const secrets = { secretKey: 'a secret key for tests', ledgerKey: 'a ledger key for tests' }
let folder: string
let market: Market
let alice: TestUser
let bob: TestUser
let agent: ScriptedAgent
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'orbyte-restart-'))
  market = await open()
  alice = await market.person('100')
  bob = await market.person()
  agent = await market.machine(bob)
})
afterEach(async () => {
  await market.close()
  await rm(folder, { recursive: true })
})

function open(outside = {}, limits = {}): Promise<Market> {
  return startMarket({ config: { databasePath: join(folder, 'orbyte.db'), ...secrets }, limits, outside })
}

/** The clock goes on where it was: a market never sees time go back. */
async function restart(limits = {}) {
  const { clock } = market
  await market.close()
  market = await open({ clock }, limits)
  market.clock = clock
}

const comeBack = (who: ScriptedAgent, attempts: object[]) => market.reconnect(who, { attempts })
const holding = (start: Start, status = 'running') => [
  { attempt_id: start.attempt_id, fencing_token: start.fencing_token, status, run_ms: 0 },
]

test('a running attempt goes on when its agent comes back with it, and is metered from when it was ready', async () => {
  const { id } = await market.submit(alice)
  const start = await agent.begin()
  await agent.output(start, 0, 'before ')
  market.clock.advance(2_000)
  await restart()
  expect(await market.task(alice, id)).toMatchObject({ status: 'running', attempts: [{ status: 'running' }] })
  const back = await comeBack(agent, holding(start))
  expect(back.welcome.attempts).toMatchObject([{ attempt_id: start.attempt_id, action: 'keep' }])
  await back.output(start, 7, 'after')
  market.clock.advance(1_000)
  await back.result(start, { run_ms: 3_000 })
  const task = await market.task(alice, id)
  expect(task).toMatchObject({ status: 'completed', cost: '0.003', attempts_count: 1, attempts: [{ number: 1 }] })
  expect((await market.call(`GET /api/tasks/${id}/output`, { token: alice.token })).body).toBe('before after')
  expect((await market.ask(bob, api.payments.received, {})).items).toHaveLength(1)
})

test('a running attempt whose agent comes back without it is tried elsewhere, uncharged, and paid once', async () => {
  const { id } = await market.submit(alice)
  const start = await agent.begin()
  market.clock.advance(2_000)
  const { token } = await market.ask(bob, api.agentTokens.create, { name: 'second' })
  await restart()
  const second = await market.connect(newMachine(token), [deviceWire({ uuid: 'GPU-second' })])
  await comeBack(agent, [])
  const again = await second.begin()
  market.clock.advance(50)
  await second.result(again, { run_ms: 50 })
  const task = await market.task(alice, id)
  expect(task).toMatchObject({ status: 'completed', cost: '0.00005' })
  expect(task.attempts).toMatchObject([
    { id: start.attempt_id, number: 1, status: 'lost', cost: '0', end: { code: 'agent_restarted' } },
    { number: 2, status: 'completed' },
  ])
  expect((await market.ask(alice, api.payments.sent, {})).items).toHaveLength(1)
})

test('a running attempt whose agent does not come back is tried elsewhere once it must have stopped', async () => {
  const { id } = await market.submit(alice)
  await agent.begin()
  const { token } = await market.ask(bob, api.agentTokens.create, { name: 'second' })
  await restart()
  const second = await market.connect(newMachine(token), [deviceWire({ uuid: 'GPU-second' })])
  market.clock.advance(80_000)
  await second.heartbeat()
  expect(second.untaken('attempt.start')).toEqual([])
  market.clock.advance(10_000)
  expect(await second.next('attempt.start')).toMatchObject({ task_id: id })
  expect((await market.task(alice, id)).attempts[0]).toMatchObject({ status: 'lost', end: { code: 'agent_lost' } })
})

test('attempts with several GPUs, and with shares of one, have all of them again after a restart', async () => {
  const able = { task_types: ['other' as const], model_formats: [] }
  const several = await market.machine(bob, [{ several: able }, { several: able }])
  const shared = await market.machine(bob, [{ sharing: true, shares: able, vram_mib: 24_576 }])
  const both = await market.submit(alice, { requirements: { gpu_count: 2 } })
  const first = await several.begin()
  const part = { requirements: { gpu_milli: 400, min_vram_gb: 6 } }
  await market.submit(alice, part)
  const second = await shared.begin()
  await restart()
  const [back, sharedBack] = [await comeBack(several, holding(first)), await comeBack(shared, holding(second))]
  const freeMilli = async (gpu_id: string) => (await market.ask(null, api.gpus.get, { gpu_id })).free_milli
  expect(await Promise.all(several.welcome.gpus.map(({ gpu_id }) => freeMilli(gpu_id)))).toEqual([0, 0])
  expect(await freeMilli(shared.gpuId)).toBe(600)
  await market.submit(alice, { requirements: { gpu_milli: 601, min_vram_gb: 6 } })
  await market.submit(alice, part)
  expect((await sharedBack.next('attempt.start')).devices).toMatchObject([{ milli: 400, vram_mib: 6_144 }])
  market.clock.advance(1_000)
  await back.result(first, { run_ms: 1_000 })
  expect(await market.task(alice, both.id)).toMatchObject({ status: 'completed', cost: '0.002' })
})

test('a task that was on offer when the market stopped is offered anew, and the attempt that it does not know is stopped', async () => {
  const { id } = await market.submit(alice)
  const start = await agent.next('attempt.start')
  await restart()
  const back = await comeBack(agent, holding(start, 'accepted'))
  expect(back.welcome.attempts).toMatchObject([{ ...agent.ref(start), action: 'stop' }])
  await back.accept(start)
  const fresh = await back.begin()
  expect(fresh).toMatchObject({ task_id: id })
  expect(fresh.attempt_id).not.toBe(start.attempt_id)
  expect(await market.task(alice, id)).toMatchObject({ attempts_count: 1, attempts: [{ id: fresh.attempt_id }] })
})

test('tasks that waited wait on, in their order, and those that waited too long meanwhile fail', async () => {
  await agent.disconnect()
  const wait = { wait: true, max_price_per_hour: '4' }
  const late = await market.submit(alice, { ...wait, max_wait_ms: 10_000 })
  const low = await market.submit(alice, { ...wait, priority: 1 })
  const high = await market.submit(alice, { ...wait, priority: 9 })
  market.clock.advance(9_000)
  await restart()
  market.clock.advance(2_000)
  await market.until(
    () => market.task(alice, late.id),
    ({ status }) => status === 'failed',
  )
  const back = await comeBack(agent, [])
  const first = await back.begin()
  expect(first.task_id).toBe(high.id)
  await back.result(first)
  expect((await back.begin()).task_id).toBe(low.id)
})

test('a result that was kept while the market was away is paid for', async () => {
  const { id } = await market.submit(alice)
  const start = await agent.begin()
  market.clock.advance(1_000)
  await restart()
  const back = await comeBack(agent, holding(start, 'ended'))
  expect(back.welcome.attempts).toMatchObject([{ action: 'keep' }])
  await back.result(start, { run_ms: 900 })
  expect(await market.task(alice, id)).toMatchObject({ status: 'completed', cost: '0.0009' })
})

test('a cancel while the market was away is told to the agent when it comes back', async () => {
  const { id } = await market.submit(alice)
  const start = await agent.begin()
  await agent.disconnect()
  await restart()
  await market.ask(alice, api.tasks.cancel, { task_id: id })
  const back = await comeBack(agent, holding(start))
  expect(back.welcome.attempts).toMatchObject([{ attempt_id: start.attempt_id, action: 'stop' }])
  await back.result(start, { outcome: 'stopped' })
  expect((await market.ask(null, api.gpus.get, { gpu_id: agent.gpuId })).status).toBe('available')
})

test('the longest run is enforced after a restart too', async () => {
  const { id } = await market.submit(alice, { max_duration_ms: 5_000 })
  const start = await agent.begin()
  await restart()
  const back = await comeBack(agent, holding(start))
  for (const seconds of [12, 12, 12]) {
    market.clock.advance(seconds * 1_000)
    await back.heartbeat([{ start, run_ms: 5_000 }])
  }
  expect(await back.next('attempt.stop')).toMatchObject(back.ref(start))
  expect(await market.task(alice, id)).toMatchObject({ status: 'failed', cost: '0.005', end: { code: 'max_duration' } })
})

/** Two chunks of a file. */
function halvesOf(start: Start) {
  const bytes = randomBytes(300_000)
  const sha256 = createHash('sha256').update(bytes).digest('hex')
  const chunk = (offset: number) => ({
    ...{ type: 'attempt.file', ...agent.ref(start), name: 'a.bin', mime_type: 'application/octet-stream', sha256 },
    ...{
      size_bytes: bytes.length,
      offset,
      data: bytes.subarray(offset, offset + 200_000).toString('base64'),
      run_ms: 0,
    },
  })
  return { bytes, sha256, halves: [chunk(0), chunk(200_000)] as const }
}

test('a file that was half way arrives whole', async () => {
  const { id } = await market.submit(alice)
  const start = await agent.begin()
  const { bytes, sha256, halves } = halvesOf(start)
  await agent.report(halves[0])
  await restart()
  const back = await comeBack(agent, holding(start))
  await back.report(halves[1])
  await back.result(start)
  expect((await market.task(alice, id)).files).toMatchObject([{ name: 'a.bin', sha256, size_bytes: 300_000 }])
  const download = await fetch(`${market.url}/api/tasks/${id}/files/a.bin`, {
    headers: { authorization: `Bearer ${alice.token}` },
  })
  expect(Buffer.from(await download.arrayBuffer()).equals(bytes)).toBe(true)
})

test('a file that stays half way leaves nothing behind', async () => {
  const { id } = await market.submit(alice)
  const start = await agent.begin()
  await agent.report(halvesOf(start).halves[0])
  await restart()
  await (await comeBack(agent, holding(start))).result(start)
  expect(await market.task(alice, id)).toMatchObject({ status: 'completed', files: [] })
  expect(await market.context.database.read((reader) => reader.all('SELECT * FROM task_file_parts'))).toEqual([])
})

test('what an attempt had put out before a restart counts towards the limit of its output', async () => {
  const { id } = await market.submit(alice)
  const start = await agent.begin()
  const whole = Buffer.alloc(150_000, 1)
  const part = { name: 'b.bin', size_bytes: 400_000, data: whole.toString('base64') }
  const file = (fields: object, bytes = whole) => ({
    ...{ type: 'attempt.file', ...agent.ref(start), name: 'a.bin', mime_type: 'application/octet-stream', offset: 0 },
    ...{ sha256: createHash('sha256').update(bytes).digest('hex'), size_bytes: bytes.length, run_ms: 0 },
    ...{ data: bytes.toString('base64'), ...fields },
  })
  await agent.report(file({}))
  await agent.report(file(part))
  for (let offset = 0; offset < 200_000; offset += 50_000) await agent.output(start, offset, 'ü'.repeat(50_000))
  await restart({ outputBytesMax: 1_000_000 })
  const back = await comeBack(agent, holding(start))
  await back.output(start, 200_000, 'x'.repeat(50_000))
  expect((await market.task(alice, id)).status).toBe('running')
  await back.output(start, 250_000, 'y')
  expect(await market.task(alice, id)).toMatchObject({ status: 'failed', end: { code: 'output_too_large' } })
})

test('only what waits counts towards how much a renter may have waiting, also after a restart', async () => {
  const { id } = await market.submit(alice)
  const start = await agent.begin()
  await market.submit(alice)
  await restart({ pendingTasksPerUserMax: 2 })
  await comeBack(agent, holding(start))
  await market.submit(alice)
  const task = { task_type: 'other', input_data: {} } as const
  expect(outcome(await market.attempt(alice, api.tasks.create, task))).toBe('429 too_many_pending_tasks')
  expect((await market.ask(alice, api.tasks.list, { status: 'running' })).items).toMatchObject([{ id }])
})

test('an agent that is back with an offer that it never answers has as long as any other', async () => {
  const { id } = await market.submit(alice)
  const start = await agent.next('attempt.start')
  market.clock.advance(4_000)
  await agent.disconnect()
  const back = await comeBack(agent, holding(start, 'accepted'))
  market.clock.advance(4_999)
  expect(back.untaken('attempt.stop')).toEqual([])
  market.clock.advance(1)
  expect(await back.next('attempt.stop')).toMatchObject(back.ref(start))
  expect((await market.task(alice, id)).attempts).toMatchObject([
    { status: 'refused', end: { code: 'accept_timeout' } },
  ])
})

test('what had refused a task before a restart cools down until it would have without one', async () => {
  const { id } = await market.submit(alice)
  for (const seconds of [0, 30]) {
    for (let beats = 0; beats < seconds; beats += 10) {
      market.clock.advance(10_000)
      await agent.heartbeat()
    }
    await agent.refuse(await agent.next('attempt.start'))
  }
  await restart()
  const back = await comeBack(agent, [])
  let seconds = 0
  for (; back.untaken('attempt.start').length === 0 && seconds < 200; seconds += 10) {
    market.clock.advance(10_000)
    // Answered after what was read before, and the heartbeat after what was sent then.
    await market.task(alice, id)
    await back.heartbeat()
  }
  expect(seconds).toBe(60)
  const start = await back.next('attempt.start')
  expect([start.task_id, start.input]).toEqual([id, {}])
})

test('a task that was tried waits from when its attempt ended, also after a restart', async () => {
  const { id } = await market.submit(alice, { max_wait_ms: 60_000 })
  const start = await agent.begin()
  for (let seconds = 0; seconds < 70; seconds += 10) {
    market.clock.advance(10_000)
    await agent.heartbeat([{ start, run_ms: 0 }])
  }
  await agent.result(start, { outcome: 'failed' })
  await restart()
  const back = await comeBack(agent, [])
  market.clock.advance(29_000)
  await back.heartbeat()
  expect(await market.task(alice, id)).toMatchObject({ status: 'pending' })
  market.clock.advance(1_000)
  expect(await back.next('attempt.start')).toMatchObject({ task_id: id })
})

test('a log line that is sent again after a restart is there once', async () => {
  const { id } = await market.submit(alice)
  const start = await agent.begin()
  await agent.log(start, 0, ['once'])
  const { seq } = agent.machine
  await restart()
  const back = await comeBack(agent, holding(start))
  back.send({ type: 'attempt.log', ...agent.ref(start), offset: 0, lines: ['once'], run_ms: 0, seq })
  await back.log(start, 1, ['twice'])
  expect((await market.call(`GET /api/tasks/${id}/logs`, { token: alice.token })).body).toBe('once\ntwice\n')
})

test('log lines that an agent process left to the next are there, whatever the next counts them as', async () => {
  const { id } = await market.submit(alice)
  const start = await agent.begin()
  await agent.log(start, 0, ['one', 'two'])
  agent.machine.instance = 'the agent process after it'
  agent.machine.seq = agent.machine.acked = 0
  const back = await comeBack(agent, holding(start, 'ended'))
  await back.log(start, 1, ['two', 'three'])
  await back.log(start, 3, ['four'])
  await back.result(start)
  const { body } = await market.call(`GET /api/tasks/${id}/logs`, { token: alice.token })
  expect(body).toBe('one\ntwo\nthree\nfour\n')
})

test('a paused market stays paused', async () => {
  await market.ask(await market.admin(), api.admin.pauseMarket, { reason: 'a long night' })
  await restart()
  await expect(market.submit(alice, { wait: true, max_price_per_hour: '1' })).rejects.toThrow(/a long night/)
})
