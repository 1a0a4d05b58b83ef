import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest'
import type { ScriptedAgent, Start } from '../agents/fixture-agent.ts'
import { type Market, startMarket } from '../fixture-market.ts'
import type { TestUser } from '../fixture-server.ts'

let market: Market
let alice: TestUser
let bob: TestUser
let agent: ScriptedAgent
beforeAll(async () => {
  market = await startMarket()
})
beforeEach(async () => {
  alice = await market.person('100')
  bob = await market.person()
  agent = await market.machine(bob)
})
afterEach(() => market.clear())
afterAll(() => market.close())

const file = {
  name: 'a.txt',
  mime_type: 'text/plain',
  sha256: '2'.repeat(64),
  size_bytes: 1,
  offset: 0,
  data: 'eA==',
  run_ms: 1,
}
/** Everything that an agent can say about an attempt. */
const messages: [type: string, fields: object][] = [
  ['attempt.accepted', {}],
  ['attempt.refused', { code: 'busy', message: 'Not now.' }],
  ['attempt.preparing', { progress: '50 %' }],
  ['attempt.ready', {}],
  ['attempt.output', { offset: 0, text: 'stale', run_ms: 1 }],
  ['attempt.log', { offset: 0, lines: ['stale'], run_ms: 1 }],
  ['attempt.file', file],
  [
    'attempt.result',
    { outcome: 'completed', run_ms: 1, output_data: {}, code: 'completed', message: 'Done.', fault: null },
  ],
  ['attempt.result', { outcome: 'failed', run_ms: 1, output_data: null, code: 'x', message: 'x', fault: 'renter' }],
]

async function everything(taskId: string) {
  const rows = (sql: string) => market.context.database.read((reader) => reader.all(sql))
  return {
    task: await market.task(alice, taskId),
    events: await rows('SELECT * FROM events ORDER BY cursor'),
    transfers: await rows('SELECT * FROM transfers ORDER BY seq'),
    attempts: await rows('SELECT * FROM attempts ORDER BY id'),
  }
}

/** Says all of it, in an offered, an accepted and a running attempt; each time nothing may change, and all is acknowledged. */
async function sayAll(say: (start: Start) => Promise<void>) {
  const { id } = await market.submit(alice)
  const start = await agent.next('attempt.start')
  for (const step of [() => agent.accept(start), () => agent.ready(start), () => agent.output(start, 0, 'true')]) {
    const before = await everything(id)
    await say(start)
    expect(await everything(id)).toEqual(before)
    await step()
  }
  const before = await everything(id)
  await say(start)
  expect(await everything(id)).toEqual(before)
  await agent.result(start)
  expect(await market.task(alice, id)).toMatchObject({ status: 'completed', attempts: [{ status: 'completed' }] })
}

test('with a fencing token that is not current, nothing that is said of an attempt changes anything', async () => {
  await sayAll(async (start) => {
    const stale = { ...start, fencing_token: '0'.repeat(32) }
    for (const [type, fields] of messages) await agent.report({ type, ...agent.ref(stale), ...fields })
    expect((await agent.heartbeat([{ start: stale, run_ms: 1_000_000 }])).attempts).toEqual([])
  })
})

test('an agent cannot speak of another agent’s attempt, even with its token', async () => {
  const thief = await market.machine(await market.person(), [{ price_per_hour: '90' }])
  await sayAll(async (start) => {
    for (const [type, fields] of messages) await thief.report({ type, ...agent.ref(start), ...fields })
    expect((await thief.heartbeat([{ start, run_ms: 1_000_000 }])).attempts).toEqual([])
  })
})

test('an attempt that has ended is no longer heard, and the one that follows it is', async () => {
  const { id } = await market.submit(alice)
  const start = await agent.begin()
  const second = await market.machine(bob)
  await agent.result(start, { outcome: 'failed' })
  const again = await second.begin()
  const before = await everything(id)
  for (const [type, fields] of messages) await agent.report({ type, ...agent.ref(start), ...fields })
  expect(await everything(id)).toEqual(before)
  market.clock.advance(10)
  await second.result(again, { run_ms: 10 })
  expect(await market.task(alice, id)).toMatchObject({ status: 'completed', cost: '0.00001' })
})

test('a message that arrives twice has no second effect, on the same connection or on the next', async () => {
  const { id } = await market.submit(alice)
  const start = await agent.next('attempt.start')
  const first = agent.machine.seq + 1
  market.clock.advance(1)
  const said = [
    { type: 'attempt.accepted', ...agent.ref(start) },
    { type: 'attempt.preparing', ...agent.ref(start), progress: 'loading' },
    { type: 'attempt.ready', ...agent.ref(start) },
    { type: 'attempt.output', ...agent.ref(start), offset: 0, text: 'once', run_ms: 0 },
    { type: 'attempt.log', ...agent.ref(start), offset: 0, lines: ['once'], run_ms: 0 },
  ].map((message, index) => ({ ...message, seq: first + index }))
  for (const message of [...said, ...said]) agent.send(message)
  agent.machine.seq = first + said.length - 1
  await agent.acked(agent.machine.seq)
  const before = await everything(id)

  await agent.disconnect()
  const held = [{ ...agent.ref(start), status: 'running', run_ms: 0 }]
  const back = await market.reconnect(agent, { attempts: held })
  expect(back.welcome).toMatchObject({
    acked_seq: agent.machine.seq,
    attempts: [{ ...agent.ref(start), action: 'keep' }],
  })
  for (const message of said) back.send(message)
  await back.acked(agent.machine.seq)
  expect(await everything(id)).toEqual(before)

  market.clock.advance(20)
  const result = { run_ms: 20 }
  await back.result(start, result)
  back.send({
    type: 'attempt.result',
    ...agent.ref(start),
    outcome: 'completed',
    run_ms: 99,
    output_data: {},
    code: 'c',
    message: 'm',
    fault: null,
    seq: agent.machine.seq,
  })
  await back.result(start, { run_ms: 99 })
  expect(await market.task(alice, id)).toMatchObject({ status: 'completed', run_ms: 20, cost: '0.00002' })
  const completed = await market.context.database.read((reader) =>
    reader.get<{ tasks_completed: number }>('SELECT tasks_completed FROM gpu_standings WHERE gpu_id = ?', agent.gpuId),
  )
  expect(completed!.tasks_completed).toBe(1)
})

test('what an agent had sent when its connection broke is heard once, however it is sent again', async () => {
  const { id } = await market.submit(alice)
  const start = await agent.begin()
  const first = agent.machine.seq + 1
  const lines = Array.from({ length: 50 }, (_, index) => ({
    type: 'attempt.log',
    ...agent.ref(start),
    offset: index,
    lines: [`line ${index}`],
    run_ms: 0,
    seq: first + index,
  }))
  for (const message of lines) agent.send(message)
  agent.machine.seq = first + lines.length - 1
  // A new connection of the same agent while the old one's messages are on their way to the disk.
  const back = await market.reconnect(agent, { attempts: [{ ...agent.ref(start), status: 'running', run_ms: 0 }] })
  for (const message of lines) if (message.seq > back.welcome.acked_seq) back.send(message)
  await back.acked(agent.machine.seq)
  const logs = await market.call(`GET /api/tasks/${id}/logs`, { token: alice.token })
  expect(logs.body).toBe(lines.map(({ lines: [line] }) => `${line}\n`).join(''))
})
