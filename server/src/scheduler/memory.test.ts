import { afterEach, beforeEach, expect, test } from 'vitest'
import { micros } from '@orbyte/protocol'
import { type Context } from '../context.ts'
import { migrate } from '../db/migrations.ts'
import { openSqlite } from '../db/sqlite-database.ts'
import { createEventLog } from '../event-store.ts'
import { loadConfig } from '../config.ts'
import { manualClock } from '../manual-clock.ts'
import { createMarket } from '../market.ts'
import { systemLog, systemRandom } from '../system-context.ts'
import { memoryFileStore } from '../system-file-store.ts'

// What a task is to work on may be large. It is on disk, and in memory only on its way to an agent.

const clock = manualClock(Date.parse('2026-03-01T12:00:00.000Z'))
let context: Context
beforeEach(async () => {
  const database = openSqlite(':memory:')
  await migrate(database, { backupPath: null })
  context = {
    config: loadConfig({ DATABASE_URL: ':memory:', LOG_LEVEL: 'silent' }),
    ...{ clock, database, random: systemRandom, log: systemLog('silent'), files: memoryFileStore() },
    events: createEventLog(clock),
  }
})
afterEach(() => context.database.close())

const words = 'only its agent reads this'
const openMarket = () => createMarket(context, { catalogue: { models: [], files: new Map() } })

test('neither the queue nor what a restart takes up holds the inputs of tasks', async () => {
  const market = await openMarket()
  const { id: userId } = await market.accounts.register({ email: 'a@example.org', password: 'ten characters or more' })
  const caller = { userId, role: 'user' as const, sessionId: null, userAgent: null, idempotency: null }
  await market.wallet.deposit(caller, micros(1e6))
  const { id } = await market.submissions.create(caller, {
    task_type: 'other',
    input_data: { words },
    requirements: {},
    allow_reexecution: false,
    ...{ max_price_per_hour: micros(1_000), max_wait_ms: 60_000, wait: true, auto_pay: true, priority: 5 },
  })
  const waits = ({ scheduler }: typeof market) => JSON.stringify([...scheduler.queue.all()])
  expect(waits(market)).toContain(id)
  expect(waits(market)).not.toContain(words)
  await market.stop()
  const again = await openMarket()
  expect(waits(again)).toContain(id)
  expect(waits(again)).not.toContain(words)
  await again.stop()
})
