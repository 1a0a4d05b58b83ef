import { DatabaseSync } from '@photostructure/sqlite'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { type Micros, micros, ProblemError } from '@orbyte/protocol'
import type { Database } from '../db/database.ts'
import { migrate } from '../db/migrations.ts'
import { sqliteDatabase } from '../db/sqlite-database.ts'
import { manualClock } from '../manual-clock.ts'
import { ledgerKeyFrom } from './ledger-key.ts'
import { available, createLedger, held, type Ledger } from './ledger-service.ts'
import { verifyLedger } from './ledger-verify.ts'

async function freshLedger(): Promise<{
  database: Database
  ledger: Ledger
  sqlite: InstanceType<typeof DatabaseSync>
}> {
  const sqlite = new DatabaseSync(':memory:')
  const database = sqliteDatabase(sqlite)
  await migrate(database, { backupPath: null })
  const ledger = createLedger({ database, clock: manualClock(1_700_000_000_000) }, ledgerKeyFrom('a secret for tests'))
  await database.transaction((tx) => ledger.checkKey(tx))
  return { database, ledger, sqlite }
}

const deposit = (userId: string, amount: number, key: string) => ({
  kind: 'deposit' as const,
  debit: 'external',
  credit: available(userId),
  amount: micros(amount),
  key,
})

const users = ['user_a', 'user_b', 'user_c']
const anyUser = fc.constantFrom(...users)
const anyAmount = fc.integer({ min: 1, max: 1_000_000 })
const anyTask = fc.integer({ min: 0, max: 6 }).map((n) => `task_${n}`)
const anyStep = fc.oneof(
  fc.record({
    do: fc.constant('deposit' as const),
    user: anyUser,
    amount: anyAmount,
    key: fc.integer({ min: 0, max: 20 }),
  }),
  fc.record({ do: fc.constant('hold' as const), user: anyUser, amount: anyAmount, task: anyTask }),
  fc.record({ do: fc.constant('settle' as const), user: anyUser, amount: anyAmount, fee: anyAmount, task: anyTask }),
  fc.record({ do: fc.constant('release' as const), amount: fc.option(anyAmount, { nil: undefined }), task: anyTask }),
  fc.record({ do: fc.constant('fail' as const), user: anyUser, amount: anyAmount }),
)
type Step = typeof anyStep extends fc.Arbitrary<infer S> ? S : never

async function take(database: Database, ledger: Ledger, step: Step) {
  await database.transaction(async (tx) => {
    const amount = ('amount' in step ? step.amount : undefined) as Micros | undefined
    if (step.do === 'deposit') await ledger.transfer(tx, deposit(step.user, amount!, `deposit:${step.key}`))
    if (step.do === 'hold') await ledger.hold(tx, { taskId: step.task, userId: step.user, amount: amount! })
    if (step.do === 'settle')
      await ledger.settle(tx, {
        taskId: step.task,
        providerId: step.user,
        cost: amount!,
        fee: micros(Math.min(step.fee, amount!)),
      })
    if (step.do === 'release') await ledger.release(tx, { taskId: step.task, amount, reason: String(amount) })
    if (step.do === 'fail') {
      await ledger.transfer(tx, deposit(step.user, amount!, `failed:${amount}`))
      throw new RangeError('the transaction fails after its transfer')
    }
  })
}

test('any sequence of holds, settlements, releases and failures keeps the sum at zero and no balance negative', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(fc.array(anyStep, { maxLength: 5 }), { maxLength: 15 }), async (commits) => {
      const { database, ledger } = await freshLedger()
      for (const steps of commits) {
        // Asked for together, so that some share a commit.
        const outcomes = await Promise.allSettled(steps.map((step) => take(database, ledger, step)))
        for (const outcome of outcomes)
          if (outcome.status === 'rejected' && !isExpected(outcome.reason)) throw outcome.reason as Error
        const report = await database.read(verifyLedger)
        expect(report.problems).toEqual([])
      }
      await database.close()
    }),
    { numRuns: 60 },
  )
})

const isExpected = (error: unknown) =>
  (error instanceof ProblemError && error.code === 'insufficient_funds') ||
  error instanceof RangeError ||
  /UNIQUE constraint failed: holds/.test(String(error))

test('a hold needs the money, and a refused hold changes nothing', async () => {
  const { database, ledger } = await freshLedger()
  await database.transaction((tx) => ledger.transfer(tx, deposit('user_a', 100, 'one')))
  const hold = database.transaction((tx) =>
    ledger.hold(tx, { taskId: 'task_1', userId: 'user_a', amount: micros(101) }),
  )
  await expect(hold).rejects.toMatchObject({ code: 'insufficient_funds' })
  expect(await database.read((reader) => ledger.balanceOf(reader, available('user_a')))).toBe(100)
  expect(await database.read((reader) => ledger.remainder(reader, 'task_1'))).toBeNull()
})

test('a task is settled at most once, whatever is asked', async () => {
  const { database, ledger } = await freshLedger()
  await database.transaction((tx) => ledger.transfer(tx, deposit('user_a', 100, 'one')))
  await database.transaction((tx) => ledger.hold(tx, { taskId: 'task_1', userId: 'user_a', amount: micros(100) }))
  const settle = () =>
    database.transaction((tx) =>
      ledger.settle(tx, { taskId: 'task_1', providerId: 'user_b', cost: micros(100), fee: micros(3) }),
    )
  await settle()
  await expect(settle()).rejects.toThrow(/0 is left/)
  const balance = (account: string) => database.read((reader) => ledger.balanceOf(reader, account))
  expect([await balance(available('user_b')), await balance('fees'), await balance(held('user_a'))]).toEqual([97, 3, 0])
})

test.each([
  ['a transfer', 'UPDATE transfers SET amount_micros = amount_micros + 1 WHERE seq = 1', /transfer 1 was changed/],
  ['a balance', `UPDATE accounts SET balance_micros = balance_micros + 1 WHERE id = 'available:user_a'`, /add up to/],
  [
    'a batch',
    `UPDATE ledger_batches SET committed_at = '2020-01-01T00:00:00.000Z' WHERE batch = 1`,
    /does not cover its fields/,
  ],
  ['the chain', `UPDATE ledger_batches SET previous_hash = hash WHERE batch = 2`, /chain is broken/],
  ['history', `DELETE FROM ledger_batches WHERE batch = 1`, /does not follow/],
])('the verifier notices when %s was changed behind the ledger’s back', async (_what, sql, expected) => {
  const { database, ledger, sqlite } = await freshLedger()
  for (const key of ['one', 'two']) await database.transaction((tx) => ledger.transfer(tx, deposit('user_a', 50, key)))
  expect((await database.read(verifyLedger)).problems).toEqual([])
  sqlite.exec(sql)
  expect((await database.read(verifyLedger)).problems.join('\n')).toMatch(expected)
})
