import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest'
import { api, listEndpoints } from '@orbyte/protocol'
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

const keyed = ({ token }: TestUser, key: string) => ({ token, headers: { 'idempotency-key': key } })
const deposit = (amount: string, key: string, user = alice) =>
  market.attempt(keyed(user, key), api.wallet.deposit, { amount })
const balance = () => market.balance(alice)

test('the same key and body get the first reply again, and nothing happens twice', async () => {
  const first = await deposit('5', 'one')
  expect(await deposit('5', 'one')).toMatchObject({ status: first.status, body: first.body })
  const together = await Promise.all(Array.from({ length: 5 }, () => deposit('7', 'two')))
  expect(new Set(together.map(({ body }) => JSON.stringify(body))).size).toBe(1)
  expect(await balance()).toBe('12')
})

test('the same key with another body is refused', async () => {
  await deposit('5', 'one')
  expect(outcome(await deposit('6', 'one'))).toBe('409 idempotency_key_reused')
  expect(await balance()).toBe('5')
})

test('a key belongs to a user and an endpoint', async () => {
  const carol = await market.person()
  await deposit('5', 'one')
  expect(outcome(await deposit('6', 'one', carol))).toBe('200')
  const withdraw = await market.attempt(keyed(alice, 'one'), api.wallet.withdraw, { amount: '5' })
  expect(outcome(withdraw)).toBe('200')
  expect([await balance(), await market.balance(carol)]).toEqual(['0', '6'])
})

test('a key holds for 24 hours, also when those before it are swept away', async () => {
  await deposit('5', 'one')
  market.clock.advance(86_400_000)
  await deposit('5', 'one')
  expect(await balance()).toBe('5')
  market.clock.advance(60_000)
  expect(outcome(await deposit('6', 'one'))).toBe('200')
  expect(await balance()).toBe('11')
})

test('what failed is not remembered: the same key works once the reason is gone', async () => {
  const withdraw = () => market.attempt(keyed(alice, 'later'), api.wallet.withdraw, { amount: '5' })
  expect(outcome(await withdraw())).toBe('402 insufficient_funds')
  await deposit('5', 'money')
  expect(outcome(await withdraw())).toBe('200')
  expect(outcome(await withdraw())).toBe('200')
  expect(await balance()).toBe('0')
})

test('a task that is submitted twice with one key is one task, with the reply of the first, whatever it does meanwhile', async () => {
  const bob = await market.person()
  const agent = await market.machine(bob)
  await deposit('50', 'money')
  const submit = () => market.attempt(keyed(alice, 'task'), api.tasks.create, { task_type: 'other', input_data: {} })
  const first = await submit()
  await agent.result(await agent.begin())
  expect(await submit()).toMatchObject({ status: 201, body: first.body })
  expect((await market.ask(alice, api.tasks.list, {})).items).toHaveLength(1)
})

test.for(['', ' ', 'with space', 'ü', 'x'.repeat(201)])('%j is no key', async (key) => {
  const answer = await fetch(`${market.url}/api/wallet/deposit`, {
    method: 'POST',
    headers: { authorization: `Bearer ${alice.token}`, 'content-type': 'application/json', 'idempotency-key': key },
    body: '{"amount":"1"}',
  })
  // A header of blanks arrives as an empty one.
  expect([answer.status, ((await answer.json()) as { code: string }).code]).toEqual([400, 'idempotency_key_invalid'])
})

test('every call that moves money or makes work takes a key', () => {
  const takesOne = listEndpoints().filter(({ endpoint }) => endpoint.idempotent)
  expect(takesOne.map(({ endpoint }) => `${endpoint.method} ${endpoint.path}`)).toEqual(
    expect.arrayContaining([
      'POST /api/tasks/',
      'POST /api/tasks/batch',
      'POST /api/tasks/{task_id}/cancel',
      'POST /api/payments/{task_id}/pay',
      'POST /api/payments/{payment_id}/dispute',
      'POST /api/wallet/deposit',
      'POST /api/wallet/withdraw',
      'POST /api/admin/payments/{payment_id}/refund',
      'POST /api/admin/disputes/{dispute_id}/decide',
    ]),
  )
})
