import { DatabaseSync, type DatabaseSyncInstance } from '@photostructure/sqlite'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { api, type Problem } from '@orbyte/protocol'
import type { ScriptedAgent } from '../agents/fixture-agent.ts'
import { type Market, startMarket } from '../fixture-market.ts'
import { outcome, type TestUser } from '../fixture-server.ts'
import { sqliteDatabase } from './sqlite-database.ts'

// SQLite's limit on pages stands in for a full disk: the same error, from the same place.

let sqlite: DatabaseSyncInstance
let market: Market
let alice: TestUser
let bob: TestUser
let agent: ScriptedAgent
beforeEach(async () => {
  sqlite = new DatabaseSync(':memory:')
  sqlite.exec('CREATE TABLE filler (bytes BLOB)')
  market = await startMarket({ outside: { database: sqliteDatabase(sqlite) } })
  alice = await market.person('100')
  bob = await market.person()
  agent = await market.machine(bob)
})
afterEach(() => market.close())

/** No page more, and what is free within the filler's and the event log's pages is used up: each change writes an event. */
function fillDisk() {
  const { page_count } = sqlite.prepare('PRAGMA page_count').get() as { page_count: number }
  sqlite.exec(`PRAGMA max_page_count = ${page_count}`)
  for (const size of [4_000, 1_000, 200, 20, 1]) {
    fillWith(`INSERT INTO filler VALUES (zeroblob(${size}))`)
    fillWith(`INSERT INTO events (type, at, data) VALUES ('filler', '', printf('%.*c', ${size}, 'x'))`)
  }
}

function fillWith(sql: string) {
  for (;;) {
    try {
      sqlite.exec(sql)
    } catch {
      return
    }
  }
}
const makeRoom = () => sqlite.exec('PRAGMA max_page_count = 1000000')
const large = { input_data: { text: 'x'.repeat(100_000) } }

async function everything() {
  const rows = (sql: string) => market.context.database.read((reader) => reader.all(sql))
  return [
    await rows('SELECT * FROM tasks'),
    await rows('SELECT * FROM transfers'),
    await rows('SELECT * FROM accounts ORDER BY id'),
    await rows('SELECT * FROM events WHERE task_id IS NOT NULL'),
  ]
}

test('a call that the disk has no room for is answered with 507, and nothing has changed', async () => {
  const before = await everything()
  fillDisk()
  const answer = await market.attempt(alice, api.tasks.create, { task_type: 'other', ...large })
  expect(outcome(answer)).toBe('507 database_full')
  expect((answer.body as Problem).detail).toMatch(/nothing was changed/)
  expect(await everything()).toEqual(before)
  expect(await market.ledgerProblems()).toEqual([])
  expect(outcome(await market.attempt(alice, api.wallet.get, {}))).toBe('200')
  makeRoom()
  const { id } = await market.submit(alice, large)
  await agent.result(await agent.begin())
  expect(await market.task(alice, id)).toMatchObject({ status: 'completed' })
})

test('what an agent says while the disk is full is not acknowledged, and counts once when it is said again', async () => {
  const { id } = await market.submit(alice)
  const start = await agent.begin()
  await agent.output(start, 0, 'kept ')
  market.clock.advance(1_000)
  fillDisk()
  const text = 'x'.repeat(60_000)
  const first = agent.machine.seq + 1
  const said = [
    { type: 'attempt.output', ...agent.ref(start), offset: 5, text, run_ms: 500, seq: first },
    {
      type: 'attempt.log',
      ...agent.ref(start),
      offset: 0,
      lines: [text.slice(0, 16_000)],
      run_ms: 500,
      seq: first + 1,
    },
    { type: 'attempt.output', ...agent.ref(start), offset: 60_005, text: ' end', run_ms: 600, seq: first + 2 },
  ]
  for (const message of said) agent.send(message)
  expect(await agent.next('refused')).toMatchObject({ code: 'not_handled', retry: true })
  await agent.closed
  makeRoom()
  const back = await market.reconnect(agent, { attempts: [{ ...agent.ref(start), status: 'running', run_ms: 600 }] })
  expect(back.welcome).toMatchObject({ acked_seq: first - 1, attempts: [{ action: 'keep' }] })
  for (const message of said) back.send(message)
  agent.machine.seq = first + 2
  await back.acked(first + 2)
  await back.result(start, { run_ms: 900 })
  expect(await market.task(alice, id)).toMatchObject({ status: 'completed', cost: '0.0009' })
  const read = async (what: string) => (await market.call(`GET /api/tasks/${id}/${what}`, { token: alice.token })).body
  expect(await read('output')).toBe(`kept ${text} end`)
  expect(await read('logs')).toBe(`${text.slice(0, 16_000)}\n`)
})

test('a result that cannot be written is sent again, and paid once', async () => {
  const { id } = await market.submit(alice)
  const start = await agent.begin()
  market.clock.advance(1_000)
  fillDisk()
  const result = { run_ms: 1_000, output_data: { text: 'y'.repeat(200_000) } }
  await expect(agent.result(start, result)).rejects.toThrow(/hung up/)
  expect(await market.task(alice, id)).toMatchObject({ status: 'running', cost: null })
  makeRoom()
  const back = await market.reconnect(agent, { attempts: [{ ...agent.ref(start), status: 'ended', run_ms: 1_000 }] })
  await back.result(start, result)
  expect(await market.task(alice, id)).toMatchObject({ status: 'completed', cost: '0.001' })
  expect((await market.ask(bob, api.payments.received, {})).items).toHaveLength(1)
})

test('an attempt whose acceptance cannot be written is accepted when it is said again', async () => {
  const { id } = await market.submit(alice)
  const start = await agent.next('attempt.start')
  fillDisk()
  await expect(agent.accept(start)).rejects.toThrow(/hung up/)
  expect(await market.task(alice, id)).toMatchObject({ status: 'pending', attempts: [] })
  makeRoom()
  const back = await market.reconnect(agent, { attempts: [{ ...agent.ref(start), status: 'accepted', run_ms: 0 }] })
  await back.accept(start)
  await back.ready(start)
  market.clock.advance(10)
  await back.result(start, { run_ms: 10 })
  expect(await market.task(alice, id)).toMatchObject({
    status: 'completed',
    cost: '0.00001',
    attempts: [{ number: 1 }],
  })
})

test('an attempt whose acceptance and readiness cannot be written begins when both are said again', async () => {
  const { id } = await market.submit(alice)
  const start = await agent.next('attempt.start')
  fillDisk()
  const said = await Promise.allSettled([agent.accept(start), agent.ready(start)])
  expect(said.map(({ status }) => status)).toEqual(['rejected', 'rejected'])
  makeRoom()
  const back = await market.reconnect(agent, { attempts: [{ ...agent.ref(start), status: 'running', run_ms: 0 }] })
  await back.accept(start)
  await back.ready(start)
  market.clock.advance(10)
  await back.result(start, { run_ms: 10, outcome: 'failed', fault: 'renter' })
  expect(await market.task(alice, id)).toMatchObject({ status: 'failed', cost: '0.00001', attempts_count: 1 })
})

test('deadlines that pass while the disk is full are acted on when there is room again', async () => {
  const { id } = await market.submit(alice, {
    wait: true,
    requirements: { min_vram_gb: 500 },
    max_price_per_hour: '1',
    max_wait_ms: 5_000,
  })
  const silent = await market.submit(alice)
  await agent.next('attempt.start')
  fillDisk()
  market.clock.advance(6_000)
  await market.ask(null, api.gpus.list, {})
  makeRoom()
  const waited = await market.until(
    async () => {
      market.clock.advance(1_000)
      return market.task(alice, id)
    },
    ({ status }) => status === 'failed',
  )
  expect(waited).toMatchObject({ end: { code: 'no_gpu_found' }, cost: '0' })
  const refused = await market.until(
    () => market.task(alice, silent.id),
    ({ attempts }) => attempts.length > 0,
  )
  expect(refused).toMatchObject({ attempts: [{ status: 'refused', end: { code: 'accept_timeout' } }] })
})
