import { DatabaseSync } from '@photostructure/sqlite'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { type Micros, micros, ProblemError } from '@orbyte/protocol'
import type { Database, Reader, Transaction } from '../db/database.ts'
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

/** Holds of 100 each for task_1 and task_2 of user_a, and what can be done with the first. */
async function heldLedger() {
  const { database, ledger } = await freshLedger()
  await database.transaction((tx) => ledger.transfer(tx, deposit('user_a', 200, 'one')))
  for (const taskId of ['task_1', 'task_2'])
    await database.transaction((tx) => ledger.hold(tx, { taskId, userId: 'user_a', amount: micros(100) }))
  const settling = (cost: number, fee = 0, reason = 'dispute') => ({
    ...{ taskId: 'task_1', providerId: 'user_b', cost: micros(cost), fee: micros(fee), reason },
  })
  const balance = (account: string) => database.read((reader) => ledger.balanceOf(reader, account))
  return {
    ...{ database, ledger, settling, balance },
    settle: (...part: Parameters<typeof settling>) =>
      database.transaction((tx) => ledger.settle(tx, settling(...part))),
    release: (keep: number, reason: string) =>
      database.transaction((tx) => ledger.release(tx, { taskId: 'task_1', keep: micros(keep), reason })),
    /** What user_a can spend, what is left of both holds, what user_b and the platform have. */
    async money() {
      const accounts = [available('user_a'), held('user_a'), available('user_b'), 'fees']
      return Promise.all(accounts.map(balance))
    },
    left: async (taskId: string) => (await database.read((reader) => ledger.remainder(reader, taskId)))?.rest,
    problems: async () => (await database.read(verifyLedger)).problems,
  }
}

test.each([
  [100, 3],
  [60, 0],
  [60, 60],
])('a task is settled at most once, and what it did not cost goes back: %i with a fee of %i', async (cost, fee) => {
  const { settle, money, left, problems } = await heldLedger()
  await settle(cost, fee)
  await expect(settle(30, 0, 'end')).rejects.toThrow(/0 is left/)
  await expect(settle(cost, fee, 'end')).rejects.toThrow(/0 is left/)
  expect(await money()).toEqual([100 - cost, 100, cost - fee, fee])
  expect([await left('task_1'), await left('task_2')]).toEqual([0, 100])
  expect(await problems()).toEqual([])
})

test('a task that cost nothing gives all of its hold back, and nobody is paid', async () => {
  const { settle, money } = await heldLedger()
  expect(await settle(0)).toBeNull()
  expect(await money()).toEqual([100, 100, 0, 0])
})

test.each([30, 20])('a hold is released once for a reason: 30, then %i', async (amount) => {
  const { release, money, left, problems } = await heldLedger()
  await release(70, 'end')
  await expect(release(70 - amount, 'end')).rejects.toThrow(/release:end:task_1/)
  expect(await money()).toEqual([30, 170, 0, 0])
  await release(70 - amount, 'dispute')
  expect(await left('task_1')).toBe(70 - amount)
  expect(await problems()).toEqual([])
})

test('no more is taken out of a task’s hold than is in it, though as much is held for another task', async () => {
  const { settle, release, money } = await heldLedger()
  for (const refused of [
    settle(101),
    settle(-1),
    settle(50, 51),
    settle(50, -1),
    release(101, 'end'),
    release(-1, 'end'),
  ])
    await expect(refused).rejects.toThrow(RangeError)
  expect(await money()).toEqual([0, 200, 0, 0])
  await release(40, 'end')
  for (const refused of [settle(41), release(41, 'dispute')]) await expect(refused).rejects.toThrow(/40 is left/)
  await settle(40)
  expect(await money()).toEqual([60, 100, 40, 0])
})

test('a hold can be used in the commit that makes it, and what failed there has taken nothing', async () => {
  const { database, ledger, settling, money, problems } = await heldLedger()
  await database.transaction((tx) => ledger.transfer(tx, deposit('user_a', 50, 'two')))
  const taskId = 'task_3'
  const settle = (fails: boolean) =>
    database.transaction(async (tx) => {
      await ledger.settle(tx, { ...settling(20, 1), taskId })
      if (fails) throw new RangeError('the transaction fails after its transfers')
    })
  const outcomes = await Promise.allSettled([
    database.transaction((tx) => ledger.hold(tx, { taskId, userId: 'user_a', amount: micros(50) })),
    settle(true),
    settle(false),
    settle(false),
  ])
  expect(outcomes.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled', 'rejected'])
  expect(await money()).toEqual([30, 200, 19, 1])
  expect(await problems()).toEqual([])
})

test('who settles a task reads its transfers once', async () => {
  const { database, ledger, settling } = await heldLedger()
  const asked: string[] = []
  await database.transaction((tx) => ledger.settle(noting(tx, asked), settling(60, 1)))
  expect(asked.filter((sql) => sql.startsWith('SELECT') && sql.includes('transfers'))).toHaveLength(1)
})

/** The transaction, and what it is asked for. */
function noting(tx: Transaction, asked: string[]): Transaction {
  return {
    get: (sql, ...params) => (asked.push(sql), tx.get(sql, ...params)),
    all: (sql, ...params) => (asked.push(sql), tx.all(sql, ...params)),
    run: (sql, ...params) => (asked.push(sql), tx.run(sql, ...params)),
    afterCommit: (effect) => tx.afterCommit(effect),
    sealWith: (work) => tx.sealWith(work),
    onUndo: (undo) => tx.onUndo(undo),
  }
}

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

test.each<[string, { taskId?: string; amount: number }, RegExp]>([
  ['more than it has', { taskId: 'task_1', amount: 101 }, /101 is taken out of held:user_a for task_1, where 100 is/],
  ['for no task', { amount: 1 }, /1 is taken out of held:user_a for null, where 0 is/],
])(
  'the verifier notices when a transfer takes something out of a hold %s',
  async (_what, { taskId, amount }, expected) => {
    const { database, ledger, problems } = await heldLedger()
    const wanted = {
      kind: 'release' as const,
      debit: held('user_a'),
      credit: available('user_a'),
      amount: micros(amount),
    }
    const of = taskId === undefined ? { key: 'x' } : { key: `x:${taskId}`, taskId }
    await database.transaction((tx) => ledger.transfer(tx, { ...wanted, ...of }))
    expect(await problems()).toEqual([expect.stringMatching(expected)])
  },
)

test('the verifier notices what is held for no task', async () => {
  const { database, ledger, problems } = await heldLedger()
  const wanted = { ...deposit('user_a', 7, 'two'), credit: held('user_a') }
  await database.transaction((tx) => ledger.transfer(tx, wanted))
  expect(await problems()).toEqual([expect.stringMatching(/7 is held for no task/)])
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
