import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest'
import { api, type Problem } from '@orbyte/protocol'
import { type Market, startMarket } from '../fixture-market.ts'
import { outcome, type TestUser } from '../fixture-server.ts'

let market: Market
let alice: TestUser
let bob: TestUser
let admin: TestUser
beforeAll(async () => {
  market = await startMarket()
  admin = await market.admin()
})
beforeEach(async () => {
  alice = await market.person('10')
  bob = await market.person()
})
afterEach(() => market.clear())
afterAll(() => market.close())

/** Alice's task ran on Bob's GPU for a second, at a micro-ORB a millisecond. */
async function runTask(auto_pay: boolean) {
  const agent = await market.machine(bob)
  const { id } = await market.submit(alice, { auto_pay })
  const start = await agent.begin()
  market.clock.advance(1_000)
  await agent.result(start, { run_ms: 1_000 })
  await agent.disconnect()
  return { taskId: id, paymentId: (await market.task(alice, id)).payment_id! }
}

const close = (user: TestUser) =>
  market.call('POST /api/auth/close', { token: user.token, body: { current_password: user.password } })
const detail = async (answer: ReturnType<typeof close>) => ((await answer).body as Problem).detail
const dispute = (payment_id: string) =>
  market.ask(alice, api.payments.dispute, { payment_id, reason: 'It is not what I asked for.' })

test('who is to be paid after a review cannot close the account until that is settled', async () => {
  const { taskId, paymentId } = await runTask(false)
  expect(outcome(await close(bob))).toBe('409 account_has_obligations')
  const { review_until } = await market.ask(bob, api.payments.get, { payment_id: paymentId })
  expect(await detail(close(bob))).toContain(review_until)
  await market.ask(alice, api.payments.pay, { task_id: taskId })
  expect(await detail(close(bob))).toContain('0.001 ORB is in your wallet')
  await market.ask(bob, api.wallet.withdraw, { amount: '0.001' })
  expect(outcome(await close(bob))).toBe('200')
})

test('neither side of a dispute can close the account until it is decided', async () => {
  const { id, decide_by } = await dispute((await runTask(false)).paymentId)
  await market.ask(alice, api.wallet.withdraw, { amount: await market.balance(alice) })
  expect([outcome(await close(alice)), outcome(await close(bob))]).toEqual([
    '409 account_has_obligations',
    '409 account_has_obligations',
  ])
  expect(await detail(close(bob))).toContain(decide_by)
  expect(await detail(close(alice))).toMatch(/0\.001 ORB is held.*dispute/)
  await market.ask(admin, api.admin.decideDispute, { dispute_id: id, decision: 'release', note: 'It was.' })
  expect(outcome(await close(alice))).toBe('200')
  await market.ask(bob, api.wallet.withdraw, { amount: '0.001' })
  expect(outcome(await close(bob))).toBe('200')
})

test('nothing is given back to a renter who has closed the account', async () => {
  const { paymentId } = await runTask(true)
  await market.ask(alice, api.wallet.withdraw, { amount: await market.balance(alice) })
  expect(outcome(await close(alice))).toBe('200')
  const refund = await market.attempt(admin, api.admin.refund, { payment_id: paymentId, reason: 'It was nothing.' })
  expect([outcome(refund), (refund.body as Problem).detail]).toEqual([
    '409 payment_not_due',
    expect.stringContaining('closed'),
  ])
  expect(await market.balance(bob)).toBe('0.001')
})
