import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { api, type OutputOf, type Problem, verifyReceipt } from '@orbyte/protocol'
import { type Market, startMarket } from '../fixture-market.ts'
import { outcome, type TestUser } from '../fixture-server.ts'

let market: Market
let alice: TestUser
let bob: TestUser
let admin: TestUser
beforeAll(async () => {
  market = await startMarket({ config: { feeBasisPoints: 250 } })
  admin = await market.admin()
})
beforeEach(async () => {
  alice = await market.person('100')
  bob = await market.person()
})
afterEach(() => market.clear())
afterAll(() => market.close())

const hourMs = 3_600_000
const dayMs = 24 * hourMs

/** A task that ran for 1,001 ms at a micro-ORB a millisecond; its payment waits for the renter's review unless told otherwise. */
async function runTask(auto_pay = false) {
  const agent = await market.machine(bob)
  const { id } = await market.submit(alice, { auto_pay, max_cost: '1' })
  const start = await agent.begin()
  market.clock.advance(1_001)
  await agent.result(start, { run_ms: 1_001 })
  await agent.disconnect()
  const { payment_id } = await market.task(alice, id)
  return { taskId: id, paymentId: payment_id! }
}

const payment = (payment_id: string): Promise<OutputOf<typeof api.payments.get>> =>
  market.ask(alice, api.payments.get, { payment_id })
const wallets = async () => [await market.balance(alice), await market.held(alice), await market.balance(bob)]
const reason = 'The picture shows a dog, not the cat that I asked for.'
const dispute = (paymentId: string) => market.ask(alice, api.payments.dispute, { payment_id: paymentId, reason })
const decide = (dispute_id: string, fields: object) =>
  market.attempt(admin, api.admin.decideDispute, { dispute_id, note: 'Looked at it.', decision: 'release', ...fields })
/** Lets the housekeeping find what is due now. */
const untilPaid = (paymentId: string) =>
  market.until(
    async () => {
      market.clock.advance(60_000)
      return payment(paymentId)
    },
    ({ status }) => status !== 'pending' && status !== 'disputed',
  )
const verified = async (payment_id: string) =>
  verifyReceipt(await market.ask(bob, api.payments.receipt, { payment_id }))

describe('without auto_pay', () => {
  test('the cost stays held until the renter pays; the fee rounds down', async () => {
    const { taskId, paymentId } = await runTask()
    expect(await payment(paymentId)).toMatchObject({
      status: 'pending',
      amount: '0.001001',
      fee: '0',
      transaction_hash: null,
    })
    expect(await wallets()).toEqual(['99.998999', '0.001001', '0'])
    expect(outcome(await market.attempt(alice, api.payments.receipt, { payment_id: paymentId }))).toBe(
      '409 payment_not_due',
    )
    const paid = await market.ask(alice, api.payments.pay, { task_id: taskId })
    expect(paid).toMatchObject({ status: 'completed', fee: '0.000025', review_until: null })
    expect(await wallets()).toEqual(['99.998999', '0', '0.000976'])
    expect(await verified(paymentId)).toEqual({ ok: true })
  })

  test('it is paid by itself after a day', async () => {
    const { paymentId } = await runTask()
    const { review_until, created_at } = await payment(paymentId)
    expect(Date.parse(review_until!) - Date.parse(created_at)).toBe(dayMs)
    market.clock.advance(dayMs - 120_000)
    expect(await payment(paymentId)).toMatchObject({ status: 'pending' })
    expect(await untilPaid(paymentId)).toMatchObject({ status: 'completed', amount: '0.001001' })
    expect(await wallets()).toEqual(['99.998999', '0', '0.000976'])
  })

  test('a payment is made once, whatever is asked', async () => {
    const { taskId } = await runTask()
    const pay = (user: TestUser) => market.attempt(user, api.payments.pay, { task_id: taskId })
    expect(outcome(await pay(bob))).toBe('404 not_found')
    const answers = await Promise.all([pay(alice), pay(alice), pay(alice)])
    expect(answers.map(outcome).sort()).toEqual(['200', '409 payment_settled', '409 payment_settled'])
    expect(await wallets()).toEqual(['99.998999', '0', '0.000976'])
  })

  test('there is nothing to pay for a task that has not ended, or cost nothing', async () => {
    const { id } = await market.submit(alice, { wait: true, auto_pay: false, max_price_per_hour: '1' })
    const pay = () => market.attempt(alice, api.payments.pay, { task_id: id })
    expect(outcome(await pay())).toBe('409 task_not_finished')
    await market.ask(alice, api.tasks.cancel, { task_id: id })
    expect(outcome(await pay())).toBe('409 payment_not_due')
  })
})

describe('a dispute', () => {
  test('keeps the money held until an administrator pays the provider', async () => {
    const { taskId, paymentId } = await runTask()
    const opened = await dispute(paymentId)
    expect(opened).toMatchObject({ status: 'open', opened_by: alice.id, reason, refunded: null })
    expect(outcome(await market.attempt(alice, api.payments.pay, { task_id: taskId }))).toBe('409 dispute_open')
    market.clock.advance(2 * dayMs)
    expect(await payment(paymentId)).toMatchObject({ status: 'disputed' })
    expect((await decide(opened.id, {})).body).toMatchObject({
      status: 'released',
      refunded: '0',
      decided_by: admin.id,
    })
    expect(await wallets()).toEqual(['99.998999', '0', '0.000976'])
    expect(await verified(paymentId)).toEqual({ ok: true })
  })

  test('can give all of it back, which leaves nothing to prove', async () => {
    const { paymentId } = await runTask()
    expect((await decide((await dispute(paymentId)).id, { decision: 'refund' })).body).toMatchObject({
      refunded: '0.001001',
    })
    expect(await payment(paymentId)).toMatchObject({ status: 'refunded', refunded: '0.001001', fee: '0' })
    expect(await wallets()).toEqual(['100', '0', '0'])
    expect(outcome(await market.attempt(alice, api.payments.receipt, { payment_id: paymentId }))).toBe(
      '409 payment_not_due',
    )
  })

  test('can divide it: the fee is of what the provider earns', async () => {
    const { paymentId } = await runTask()
    const { id } = await dispute(paymentId)
    for (const refund_amount of [undefined, '0.001001', '1'])
      expect(outcome(await decide(id, { decision: 'split', refund_amount }))).toBe('400 invalid_request')
    expect((await decide(id, { decision: 'split', refund_amount: '0.000201' })).body).toMatchObject({ status: 'split' })
    expect(await payment(paymentId)).toMatchObject({
      status: 'completed',
      amount: '0.001001',
      refunded: '0.000201',
      fee: '0.00002',
    })
    expect(await wallets()).toEqual(['99.9992', '0', '0.00078'])
    expect(await verified(paymentId)).toEqual({ ok: true })
  })

  test('is decided once', async () => {
    const { id } = await dispute((await runTask()).paymentId)
    expect(outcome(await decide(id, {}))).toBe('200')
    expect(outcome(await decide(id, { decision: 'refund' }))).toBe('409 dispute_decided')
  })

  test('that nobody decides in a week pays the provider', async () => {
    const { paymentId } = await runTask()
    const { id, decide_by, created_at } = await dispute(paymentId)
    expect(Date.parse(decide_by) - Date.parse(created_at)).toBe(7 * dayMs)
    market.clock.advance(7 * dayMs - 120_000)
    expect(await payment(paymentId)).toMatchObject({ status: 'disputed' })
    expect(await untilPaid(paymentId)).toMatchObject({ status: 'completed' })
    const { items } = await market.ask(bob, api.payments.disputes, {})
    expect(items).toMatchObject([{ id, status: 'released', decided_by: 'platform' }])
  })

  test('is the renter’s, of a payment under review, and one', async () => {
    const { paymentId } = await runTask()
    const open = (user: TestUser, payment_id = paymentId) =>
      market.attempt(user, api.payments.dispute, { payment_id, reason })
    expect(outcome(await open(bob))).toBe('404 not_found')
    expect(outcome(await open(await market.person()))).toBe('404 not_found')
    expect(outcome(await open(alice))).toBe('201')
    expect(outcome(await open(alice))).toBe('409 dispute_open')
    expect(outcome(await open(alice, (await runTask(true)).paymentId))).toBe('409 payment_settled')
    const late = await runTask()
    market.clock.advance(dayMs)
    expect(['409 review_over', '409 payment_settled']).toContain(outcome(await open(alice, late.paymentId)))
  })

  test('is seen by both sides and by administrators, and by nobody else', async () => {
    const { id } = await dispute((await runTask()).paymentId)
    const ids = async (user: TestUser) => (await market.ask(user, api.payments.disputes, {})).items.map((one) => one.id)
    expect([await ids(alice), await ids(bob), await ids(await market.person())]).toEqual([[id], [id], []])
    const all = await market.ask(admin, api.admin.disputes, { status: 'open' })
    expect(all.items.map((one) => one.id)).toContain(id)
  })
})

describe('an administrator’s refund', () => {
  const refund = (payment_id: string, amount?: string) =>
    market.attempt(admin, api.admin.refund, { payment_id, reason: 'The model was not the one that was sold.', amount })

  test('takes from the provider and the fees in proportion, in parts, and all of it to the last micro-ORB', async () => {
    const { paymentId } = await runTask(true)
    expect(await payment(paymentId)).toMatchObject({ amount: '0.001001', fee: '0.000025' })
    const fees = async () =>
      (await market.context.database.read((reader) =>
        reader.get<{ balance_micros: number }>(`SELECT balance_micros FROM accounts WHERE id = 'fees'`),
      ))!.balance_micros
    const feesBefore = await fees()
    expect((await refund(paymentId, '0.0005')).body).toMatchObject({ status: 'completed', refunded: '0.0005' })
    expect(await verified(paymentId)).toEqual({ ok: true })
    expect((await refund(paymentId)).body).toMatchObject({ status: 'refunded', refunded: '0.001001' })
    expect([await wallets(), feesBefore - (await fees())]).toEqual([['100', '0', '0'], 25])
    expect(outcome(await refund(paymentId))).toBe('409 payment_not_due')
    expect(await verified(paymentId)).toEqual({ ok: true })
  })

  test('of a payment that was divided gives back no more than was paid', async () => {
    const { paymentId } = await runTask()
    await decide((await dispute(paymentId)).id, { decision: 'split', refund_amount: '0.000201' })
    expect(outcome(await refund(paymentId, '0.000801'))).toBe('409 payment_not_due')
    expect(outcome(await refund(paymentId, '0.0008'))).toBe('200')
    expect(await wallets()).toEqual(['100', '0', '0'])
    expect(await verified(paymentId)).toEqual({ ok: true })
  })

  test('needs the money to be there', async () => {
    const { paymentId } = await runTask(true)
    await market.ask(bob, api.wallet.withdraw, { amount: '0.000976' })
    const refused = await refund(paymentId)
    expect(outcome(refused)).toBe('402 insufficient_funds')
    const { detail, details } = refused.body as Problem
    expect(details).toEqual({ needed: '0.000976', balance: '0' })
    expect(detail).toMatch(/0\.000976 ORB from the provider, who has 0 ORB/)
    expect(detail).not.toMatch(/deposit/i)
    expect(await payment(paymentId)).toMatchObject({ status: 'completed', refunded: '0' })
  })
})
