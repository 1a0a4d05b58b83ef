import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest'
import { api, type Problem } from '@orbyte/protocol'
import { type Market, startMarket } from '../fixture-market.ts'
import { outcome, type TestUser } from '../fixture-server.ts'

let market: Market
let alice: TestUser
beforeAll(async () => {
  market = await startMarket()
})
beforeEach(async () => {
  alice = await market.person()
})
afterEach(() => market.clear())
afterAll(() => market.close())

const deposit = (amount: string) => market.attempt(alice, api.wallet.deposit, { amount })

test('the faucet gives 1,000 ORB in any 24 hours', async () => {
  expect((await deposit('999.5')).body).toEqual({
    balance: '999.5',
    held: '0',
    currency: 'ORB',
    mode: 'mock',
    faucet_remaining: '0.5',
  })
  const tooMuch = await deposit('0.500001')
  expect([outcome(tooMuch), (tooMuch.body as Problem).details]).toEqual(['429 faucet_limit', { remaining: '0.5' }])
  market.clock.advance(86_400_000 - 1)
  expect(outcome(await deposit('1'))).toBe('429 faucet_limit')
  market.clock.advance(1)
  expect((await deposit('1000')).body).toMatchObject({ balance: '1999.5', faucet_remaining: '0' })
})

test('calls at the same time do not get more out of the faucet than it gives', async () => {
  const answers = await Promise.all(Array.from({ length: 10 }, () => deposit('300')))
  expect(answers.filter(({ status }) => status === 200)).toHaveLength(3)
  expect(await market.balance(alice)).toBe('900')
})

test('no more can be withdrawn than is there and free', async () => {
  await deposit('10')
  await market.submit(alice, { wait: true, max_price_per_hour: '4' })
  const withdraw = (amount: string) => market.attempt(alice, api.wallet.withdraw, { amount })
  expect(outcome(await withdraw('6.000001'))).toBe('402 insufficient_funds')
  expect((await withdraw('6')).body).toMatchObject({ balance: '0', held: '4' })
  expect(outcome(await withdraw('0.000001'))).toBe('402 insufficient_funds')
})

test.for(['0', '-1', '1.1234567', '1e3', '01', '', 'ten', 1, null, '99999999999'])(
  '%j is no amount to deposit',
  async (amount) => {
    const answer = await market.call('POST /api/wallet/deposit', { token: alice.token, body: { amount } })
    expect([outcome(answer), (answer.body as Problem).errors![0]!.field]).toEqual(['400 invalid_request', 'amount'])
    expect(await market.balance(alice)).toBe('0')
  },
)

test('every transfer from or to a user’s accounts is listed, newest first, page by page', async () => {
  await deposit('10')
  const { id } = await market.submit(alice, { wait: true, max_price_per_hour: '4' })
  await market.ask(alice, api.tasks.cancel, { task_id: id })
  await market.ask(alice, api.wallet.withdraw, { amount: '3' })
  const all = await market.ask(alice, api.wallet.transfers, {})
  const [available, held] = [`available:${alice.id}`, `held:${alice.id}`]
  expect(all.items.map((t) => [t.kind, t.debit_account, t.credit_account, t.amount, t.task_id])).toEqual([
    ['withdrawal', available, 'external', '3', null],
    ['release', held, available, '4', id],
    ['hold', available, held, '4', id],
    ['deposit', 'external', available, '10', null],
  ])
  const first = await market.ask(alice, api.wallet.transfers, { limit: 3 })
  const second = await market.ask(alice, api.wallet.transfers, { limit: 3, cursor: first.next_cursor! })
  expect([...first.items, ...second.items]).toEqual(all.items)
  expect(second.next_cursor).toBeNull()
  expect((await market.ask(await market.person(), api.wallet.transfers, {})).items).toEqual([])
  for (const cursor of ['nonsense', Buffer.from('c1:one').toString('base64url')])
    expect(outcome(await market.attempt(alice, api.wallet.transfers, { cursor }))).toBe('400 invalid_cursor')
})

test('the ledger’s head and links are public: each names the one before, and all balances add up to zero', async () => {
  for (const amount of ['1', '2', '3']) await deposit(amount)
  const { head, sum, transfers } = await market.ask(null, api.ledger.head, {})
  const { items } = await market.ask(null, api.ledger.batches, { limit: 200 })
  expect([sum, items[0], head!.last_seq]).toEqual(['0', head, transfers])
  for (const [index, batch] of items.slice(0, -1).entries()) {
    expect(batch.previous_hash).toBe(items[index + 1]!.hash)
    expect(batch.first_seq).toBe(items[index + 1]!.last_seq + 1)
  }
  const page = await market.ask(null, api.ledger.batches, { limit: 1 })
  expect((await market.ask(null, api.ledger.batches, { limit: 1, cursor: page.next_cursor! })).items).toEqual([
    items[1],
  ])
})
