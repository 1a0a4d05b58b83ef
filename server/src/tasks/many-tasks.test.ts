import { afterEach, beforeEach, expect, test } from 'vitest'
import { api, micros } from '@orbyte/protocol'
import { isoFromMs } from '../context.ts'
import type { Reader } from '../db/database.ts'
import { type Market, startMarket } from '../fixture-market.ts'
import type { TestUser } from '../fixture-server.ts'
import { paymentOfTask } from '../payments/payment-store.ts'
import { attemptsOfGpu, historyOfOpenTasks, openAttempts } from './attempt-store.ts'
import {
  insertTask,
  openTasks,
  openTasksOfRenter,
  type StoredTask,
  tasksOfRenter,
  tasksWithOldData,
} from './task-store.ts'

let market: Market
let alice: TestUser
beforeEach(async () => {
  market = await startMarket()
  alice = await market.person('100')
})
afterEach(() => market.close())

const idOf = (number: number) => `task_01arz3ndektsv4rrffq${String(number).padStart(7, '0')}`

/** Tasks of Alice's that have ended. */
async function ended(count: number, { input_data, at }: Pick<StoredTask, 'input_data'> & { at: string }) {
  const task = {
    ...{ renter_id: alice.id, title: null, task_type: 'other', input_data, requirements: {} },
    ...{ model: null, max_price_per_hour: micros(1), max_duration_ms: 1_000, max_wait_ms: 1_000, auto_pay: true },
    ...{ priority: 5, hold: micros(1), created_at: at },
  } as unknown as StoredTask
  await market.context.database.transaction(async (tx) => {
    for (let number = 0; number < count; number++) await insertTask(tx, { ...task, id: idOf(number) })
    await tx.run(
      `UPDATE tasks SET status = 'cancelled', end_code = 'cancelled', end_message = 'Cancelled.', end_decided_by = 'renter', completed_at = ?`,
      at,
    )
  })
}

test('data that is too old goes at one housekeeping, however much there is', async () => {
  const { database, config } = market.context
  const at = isoFromMs(market.clock.now() - config.timing.resultsKeptMs - 1)
  await ended(350, { input_data: { words: 'old' }, at })
  market.clock.advance(config.timing.housekeepingMs)
  const left = await market.until(
    async () => {
      await new Promise((resolve) => setImmediate(resolve))
      return database.read((reader) => reader.all('SELECT id FROM tasks WHERE input_data IS NOT NULL'))
    },
    ({ length }) => length === 0,
  )
  expect(left).toEqual([])
})

test('an account’s export has its tasks, the newest first, up to a size that does not hurt', async () => {
  const at = isoFromMs(market.clock.now())
  await ended(120, { input_data: { text: 'x'.repeat(200_000) }, at })
  const exported = async () => (await market.ask(alice, api.auth.export, {})).tasks as { id: string }[]
  const tasks = await exported()
  expect(tasks.map(({ id }) => id)).toEqual(Array.from(tasks, (_, index) => idOf(119 - index)))
  expect(tasks.length).toBeGreaterThan(70)
  expect(JSON.stringify(tasks).length).toBeLessThanOrEqual(16_000_000)
  await market.context.database.transaction((tx) => tx.run(`UPDATE tasks SET input_data = '{}'`))
  expect(await exported()).toHaveLength(120)
})

test('all tasks of a renter who is suspended are cancelled, and nobody else’s', async () => {
  const carol = await market.person('1')
  const task = { task_type: 'other' as const, input_data: {}, wait: true, max_price_per_hour: '0.01' }
  await market.ask(alice, api.tasks.createBatch, { tasks: Array.from({ length: 250 }, () => task) })
  const other = await market.ask(carol, api.tasks.create, task)
  await market.ask(await market.admin(), api.admin.suspendUser, { user_id: alice.id, reason: 'spam' })
  const rows = await market.context.database.read((reader) =>
    reader.all(
      'SELECT renter_id, status, count(*) AS count FROM task_states GROUP BY renter_id, status ORDER BY count',
    ),
  )
  expect(rows).toEqual([
    { renter_id: carol.id, status: 'pending', count: 1 },
    { renter_id: alice.id, status: 'cancelled', count: 250 },
  ])
  await market.ask(carol, api.tasks.cancel, { task_id: other.id })
})

const newest = { renterId: 'user_1', status: null, taskType: null, before: '', limit: 1 }

test.each([
  ['tasks with old data', (reader: Reader) => tasksWithOldData(reader, { before: '2026', limit: 1 }), 'tasks_by_end'],
  [
    'a renter’s open tasks',
    (reader: Reader) => openTasksOfRenter(reader, { renterId: 'user_1', after: '', limit: 1 }),
    'INDEX tasks_open',
  ],
  ['all open tasks', openTasks, 'INDEX tasks_open'],
  ['the payment of a task', (reader: Reader) => paymentOfTask(reader, 'task_1'), 'payments_of_other_ids'],
  ['open attempts', openAttempts, 'tasks_open'],
  ['what was tried for open tasks', historyOfOpenTasks, 'SCAN t USING COVERING INDEX tasks_open'],
  [
    'a renter’s waiting tasks',
    (reader: Reader) => tasksOfRenter(reader, { ...newest, status: 'pending' }),
    'INDEX tasks_open (renter_id=?)',
  ],
  ['a renter’s tasks', (reader: Reader) => tasksOfRenter(reader, newest), 'SEARCH o USING PRIMARY KEY'],
  [
    'a GPU’s attempts',
    (reader: Reader) => attemptsOfGpu(reader, { gpuId: 'gpu_1', before: 9, limit: 1 }),
    'SEARCH o USING PRIMARY KEY',
  ],
] as const)('%s are found by an index', async (_what, look, index) => {
  const plans = await market.context.database.read(async (reader) => {
    const asked: { sql: string; params: Parameters<Reader['all']>[1][] }[] = []
    const noting =
      (method: 'get' | 'all') =>
      (sql: string, ...params: Parameters<Reader['all']>[1][]) => {
        asked.push({ sql, params })
        return reader[method](sql, ...params)
      }
    await look({ get: noting('get'), all: noting('all') } as Reader)
    const explained = asked.map(({ sql, params }) =>
      reader.all<{ detail: string }>(`EXPLAIN QUERY PLAN ${sql}`, ...params),
    )
    return (await Promise.all(explained)).flat().map(({ detail }) => detail)
  })
  expect(plans.join()).toContain(index)
  expect(plans.filter((step) => /^SCAN (?!\w+ (USING|VIRTUAL TABLE))/.test(step))).toEqual([])
})
