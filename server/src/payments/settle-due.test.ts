import { expect, test } from 'vitest'
import { micros } from '@orbyte/protocol'
import { defaultTiming, loadConfig } from '../config.ts'
import type { Context } from '../context.ts'
import { migrate } from '../db/migrations.ts'
import { openSqlite } from '../db/sqlite-database.ts'
import { createEventLog } from '../event-store.ts'
import { ledgerKeyFrom } from '../ledger/ledger-key.ts'
import { available, createLedger } from '../ledger/ledger-service.ts'
import { manualClock } from '../manual-clock.ts'
import { systemRandom } from '../system-context.ts'
import { memoryFileStore } from '../system-file-store.ts'
import { createAccountService } from '../users/account-service.ts'
import { createAuthenticationService } from '../users/authentication-service.ts'
import { createPasswords } from '../users/password.ts'
import { createUserService } from '../users/user-service.ts'
import { createDisputeService } from './dispute-service.ts'
import { createPaymentService } from './payment-service.ts'

const caller = {
  userId: 'user_a',
  role: 'user',
  sessionId: null,
  userAgent: null,
  idempotency: null,
} as const

/** Payments of user_a to user_b under review: of 100 micro-ORB each, one task each. */
async function underReview(count: number) {
  const clock = manualClock(1_700_000_000_000)
  const database = openSqlite(':memory:')
  await migrate(database, { backupPath: null })
  const config = loadConfig({ DATABASE_URL: ':memory:', PORT: '0', LOG_LEVEL: 'silent' })
  const logged: object[] = []
  const log = { debug() {}, info() {}, warn() {}, error: (fields: object) => void logged.push(fields) }
  const outside = { random: systemRandom, files: memoryFileStore(), log }
  const context: Context = { config, clock, database, events: createEventLog(clock), ...outside }
  const users = createUserService(context, createAuthenticationService(context))
  const accounts = createAccountService(context, { users, passwords: createPasswords(context) })
  const ledger = createLedger(context, ledgerKeyFrom('a secret for tests'))
  const payments = createPaymentService(context, { ledger, users, accounts })
  const disputes = createDisputeService(context, payments)

  const charge = (taskId: string) =>
    database.transaction(async (tx) => {
      const userId = 'user_a'
      const amount = micros(100)
      const key = taskId.replace('task', 'deposit')
      await ledger.transfer(tx, { kind: 'deposit', debit: 'external', credit: available(userId), amount, key })
      await ledger.hold(tx, { taskId, userId, amount })
      const parties = { payer_id: userId, recipient_id: 'user_b', attempt_id: 'attempt', gpu_id: 'gpu' }
      return payments.charge(tx, {
        ...{ task_id: taskId, ...parties, cost: amount, run_ms: 1, price_per_hour: amount, auto_pay: false },
      })
    })
  const made = await Promise.all(Array.from({ length: count }, (_, index) => charge(`task_${index}`)))
  const ids = made.map((payment) => payment!.id)
  return {
    ...{ clock, payments, disputes, ids, logged },
    earned: () => database.read((reader) => ledger.balanceOf(reader, available('user_b'))),
    /** Makes payments such that they cannot be settled: of more than is held for them. */
    break: (broken: string[]) =>
      database.transaction(async (tx) => {
        for (const id of broken) await tx.run('UPDATE payments SET amount_micros = 1000 WHERE id = ?', id)
      }),
    mend: () => database.transaction((tx) => tx.run('UPDATE payments SET amount_micros = 100')),
    close: () => database.close(),
  }
}

test('all reviews that are over are settled in one run, however many they are', async () => {
  const { clock, payments, earned, logged, close } = await underReview(250)
  clock.advance(defaultTiming.reviewMs - 1)
  await payments.settleDue()
  expect(await earned()).toBe(0)
  clock.advance(1)
  await payments.settleDue()
  expect(await earned()).toBe(25_000)
  expect(logged).toEqual([])
  await close()
})

test('payments that cannot be settled keep no other from being settled, and are tried again', async () => {
  const market = await underReview(250)
  const broken = market.ids.slice(0, 120)
  await market.break(broken)
  market.clock.advance(defaultTiming.reviewMs)
  await market.payments.settleDue()
  expect(await market.earned()).toBe(13_000)
  expect(market.logged.map((fields) => (fields as { id: string }).id).sort()).toEqual([...broken].sort())
  await market.mend()
  await market.payments.settleDue()
  expect(await market.earned()).toBe(25_000)
  await market.close()
})

test('a dispute that cannot be ended keeps no other from being ended', async () => {
  const market = await underReview(3)
  const reason = 'It is not what I asked for.'
  for (const paymentId of market.ids) await market.disputes.open(caller, { paymentId, reason })
  await market.break(market.ids.slice(0, 1))
  market.clock.advance(defaultTiming.disputeMs)
  await market.disputes.endDue()
  expect(await market.earned()).toBe(200)
  expect(market.logged).toHaveLength(1)
  await market.mend()
  await market.disputes.endDue()
  expect(await market.earned()).toBe(300)
  await market.close()
})
