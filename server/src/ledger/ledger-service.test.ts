import fc from 'fast-check'
import { expect, test } from 'vitest'
import { type Micros, micros, ProblemError } from '@orbyte/protocol'
import type { Database, Reader } from '../db/database.ts'
import { deposit, freshLedger } from './fixture-ledger.ts'
import { available, type Ledger } from './ledger-service.ts'
import { batchOfSeq } from './ledger-store.ts'
import { verifyLedger } from './ledger-verify.ts'

const users = ['user_a', 'user_b', 'user_c']
const anyUser = fc.constantFrom(...users)
const anyAmount = fc.integer({ min: 1, max: 1_000_000 })
/** Small beside a hold, so that several could fit into one. */
const anyPart = fc.integer({ min: 1, max: 100_000 })
const tasks = ['task_0', 'task_1', 'task_2', 'task_3']
const anyTask = fc.constantFrom(...tasks)
const anyReason = fc.constantFrom('end', 'dispute')
const anyStep = fc.oneof(
  fc.record({
    do: fc.constant('deposit' as const),
    user: anyUser,
    amount: anyAmount,
    key: fc.integer({ min: 0, max: 20 }),
    isRepeated: fc.boolean(),
  }),
  fc.record({ do: fc.constant('hold' as const), user: anyUser, amount: anyAmount, task: anyTask }),
  fc.record({
    do: fc.constant('settle' as const),
    user: anyUser,
    amount: anyPart,
    fee: anyPart,
    task: anyTask,
    reason: anyReason,
  }),
  fc.record({
    do: fc.constant('release' as const),
    amount: fc.option(anyPart, { nil: undefined }),
    task: anyTask,
    reason: anyReason,
  }),
  fc.record({ do: fc.constant('fail' as const), user: anyUser, amount: anyAmount }),
)
type Step = typeof anyStep extends fc.Arbitrary<infer S> ? S : never

/** Every other one is the same again wherever its key is; the rest clash with what has their key. */
function depositOf(step: { user: string; amount: number; key: number; isRepeated: boolean }) {
  const key = `deposit:${step.key}`
  return step.isRepeated
    ? deposit(users[step.key % users.length]!, 1_000_000 * (step.key + 1), key)
    : deposit(step.user, step.amount, key)
}

async function take(database: Database, ledger: Ledger, step: Step) {
  await database.transaction(async (tx) => {
    const amount = ('amount' in step ? step.amount : undefined) as Micros | undefined
    if (step.do === 'deposit') await ledger.transfer(tx, depositOf(step))
    if (step.do === 'hold') await ledger.hold(tx, { taskId: step.task, userId: step.user, amount: amount! })
    if (step.do === 'settle')
      await ledger.settle(tx, {
        taskId: step.task,
        providerId: step.user,
        cost: amount!,
        fee: micros(Math.min(step.fee, amount!)),
        reason: step.reason,
      })
    if (step.do === 'release') await ledger.release(tx, { taskId: step.task, keep: amount, reason: step.reason })
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
        expect(await database.read((reader) => leftOfHolds(reader, ledger))).toEqual(await database.read(heldByAll))
      }
      await database.close()
    }),
    { numRuns: 60 },
  )
})

/** What is left of each task's hold, added up: the same as what is held in all accounts. */
async function leftOfHolds(reader: Reader, ledger: Ledger): Promise<number> {
  const holds = await Promise.all(tasks.map((taskId) => ledger.remainder(reader, taskId)))
  return holds.reduce((sum, hold) => sum + (hold?.rest ?? 0), 0)
}
async function heldByAll(reader: Reader): Promise<number> {
  const rows = await reader.all<{ sum: number }>(
    `SELECT coalesce(sum(balance_micros), 0) AS sum FROM accounts WHERE id LIKE 'held:%'`,
  )
  return rows[0]!.sum
}

const isExpected = (error: unknown) =>
  (error instanceof ProblemError && error.code === 'insufficient_funds') || error instanceof RangeError

test('a commit that is lost at its very end has moved nothing, and the chain goes on from the batch before it', async () => {
  const { database, ledger } = await freshLedger()
  const make = (key: string, isLost = false) =>
    database.transaction(async (tx) => {
      await ledger.transfer(tx, deposit('user_a', 50, key))
      if (isLost) tx.sealWith(() => Promise.reject(new Error('it is lost after its batch was sealed')))
    })
  for (const key of ['one', 'two']) {
    await expect(make(key, true)).rejects.toThrow(/it is lost/)
    await make(key)
    await expect(make('three', true)).rejects.toThrow(/it is lost/)
  }
  expect(await database.read((reader) => ledger.balanceOf(reader, available('user_a')))).toBe(100)
  expect(await database.read(verifyLedger)).toMatchObject({ problems: [], batches: 2, transfers: 2 })
})

test('the batch of each transfer is found, and none for what is in no batch', async () => {
  const { database, ledger } = await freshLedger()
  const expected: number[] = []
  for (const [index, transfers] of [1, 3, 1, 1, 7, 2, 1, 5, 1].entries()) {
    const make = (number: number) =>
      database.transaction((tx) => ledger.transfer(tx, deposit('user_a', 1, `${index}.${number}`)))
    await Promise.all(Array.from({ length: transfers }, (_, number) => make(number)))
    expected.push(...Array<number>(transfers).fill(index + 1))
  }
  const batchOf = async (seq: number) => (await database.read((reader) => batchOfSeq(reader, seq)))?.batch
  expect(await Promise.all(expected.map((_, index) => batchOf(index + 1)))).toEqual(expected)
  expect(await batchOf(expected.length + 1)).toBeUndefined()
})

test('a transfer that is repeated moves nothing; another transfer with its key is refused', async () => {
  const { database, ledger } = await freshLedger()
  const wanted = deposit('user_a', 100, 'one')
  const make = (fields: Partial<Parameters<Ledger['transfer']>[1]> = {}) =>
    database.transaction((tx) => ledger.transfer(tx, { ...wanted, ...fields }))
  expect(await make()).toEqual(await make())
  for (const other of [
    { amount: micros(101) },
    { amount: micros(0) },
    { credit: available('user_b') },
    { debit: 'fees' },
    { kind: 'refund' as const },
    { taskId: 'task_1' },
  ])
    await expect(make(other)).rejects.toThrow(/key one/)
  expect(await database.read((reader) => ledger.balanceOf(reader, available('user_a')))).toBe(100)
})

test('the key of a task’s transfer names the task, and no other key names one', async () => {
  const { database, ledger } = await freshLedger()
  const make = (key: string, taskId?: string) =>
    database.transaction((tx) => ledger.transfer(tx, { ...deposit('user_a', 100, key), ...(taskId && { taskId }) }))
  for (const [key, taskId] of [['x:task_1'], ['x', 'task_1'], ['x:task_2', 'task_1']] as const)
    await expect(make(key, taskId)).rejects.toThrow(/has to name its task, and no other/)
  expect(await make('x:task_1', 'task_1')).toEqual(await make('x:task_1', 'task_1'))
  await expect(
    database.transaction((tx) => ledger.transfer(tx, { ...deposit('user_a', 101, 'x:task_1'), taskId: 'task_1' })),
  ).rejects.toThrow(/another transfer has the key/)
})

test.each([
  ['a transfer', 'UPDATE transfers SET amount_micros = amount_micros + 1 WHERE seq = 1', /transfer 1 was changed/],
  ['a balance', `UPDATE accounts SET balance_micros = balance_micros + 1 WHERE id = 'available:user_a'`, /add up to/],
  ['the sum', 'UPDATE ledger_sum SET micros = 1', /1 is kept as that/],
  [
    'a batch',
    `UPDATE ledger_batches SET committed_at = '2020-01-01T00:00:00.000Z' WHERE batch = 1`,
    /does not cover its fields/,
  ],
  ['the chain', `UPDATE ledger_batches SET previous_hash = hash WHERE batch = 2`, /chain is broken/],
  ['history', `DELETE FROM ledger_batches WHERE batch = 1`, /does not follow/],
  ['a key', `UPDATE transfers SET idempotency_key = 'one', task_id = 'task_1' WHERE seq = 2`, /have the key one/],
])('the verifier notices when %s was changed behind the ledger’s back', async (_what, sql, expected) => {
  const { database, ledger, sqlite } = await freshLedger()
  for (const key of ['one', 'two']) await database.transaction((tx) => ledger.transfer(tx, deposit('user_a', 50, key)))
  expect((await database.read(verifyLedger)).problems).toEqual([])
  sqlite.exec(sql)
  expect((await database.read(verifyLedger)).problems.join('\n')).toMatch(expected)
})

test('the sum of all balances is said as it is at any time, also when it is wrong', async () => {
  const { database, ledger, sqlite } = await freshLedger()
  const sum = async () => (await database.read(ledger.head)).sum
  expect(await sum()).toBe('0')
  await database.transaction((tx) => ledger.transfer(tx, deposit('user_a', 50, 'one')))
  await database
    .transaction(async (tx) => {
      await ledger.transfer(tx, deposit('user_a', 50, 'two'))
      throw new RangeError('the transaction fails after its transfer')
    })
    .catch(() => {})
  expect(await sum()).toBe('0')
  sqlite.exec(`UPDATE accounts SET balance_micros = balance_micros + 7 WHERE id = 'available:user_a'`)
  expect(await sum()).toBe('7')
  sqlite.exec(`INSERT INTO accounts (id, balance_micros) VALUES ('available:user_b', 5)`)
  expect(await sum()).toBe('12')
  sqlite.exec(`DELETE FROM accounts WHERE id = 'available:user_a'`)
  expect(await sum()).toBe('-45')
})

test('the sum of all balances is read without looking at each of them', async () => {
  const { database, ledger, sqlite } = await freshLedger()
  const asked: string[] = []
  await database.read((reader) =>
    ledger.head({
      all: reader.all,
      get: (sql, ...params) => {
        asked.push(sql)
        return reader.get(sql, ...params)
      },
    }),
  )
  const plans = asked.flatMap((sql) => sqlite.prepare(`EXPLAIN QUERY PLAN ${sql}`).all() as { detail: string }[])
  expect(plans.length).toBeGreaterThan(0)
  expect(plans.filter(({ detail }) => detail.includes('accounts'))).toEqual([])
})
