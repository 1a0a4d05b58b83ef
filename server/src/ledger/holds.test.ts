import { expect, test } from 'vitest'
import { micros } from '@orbyte/protocol'
import type { Transaction } from '../db/database.ts'
import { deposit, freshLedger } from './fixture-ledger.ts'
import { available, held } from './ledger-service.ts'
import { verifyLedger } from './ledger-verify.ts'

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
