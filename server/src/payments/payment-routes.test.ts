import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest'
import { api, type OutputOf, verifyReceipt } from '@orbyte/protocol'
import { type Market, startMarket } from '../fixture-market.ts'
import { outcome, type TestUser } from '../fixture-server.ts'

let market: Market
let alice: TestUser
let bob: TestUser
beforeAll(async () => {
  market = await startMarket({ config: { feeBasisPoints: 1_000 } })
})
beforeEach(async () => {
  alice = await market.person('100')
  bob = await market.person()
})
afterEach(() => market.clear())
afterAll(() => market.close())

/** Runs tasks on one GPU of Bob's, each for so many milliseconds. Returns their payments. */
async function pay(...runMs: number[]) {
  const agent = await market.machine(bob, [{ name: 'the big one' }])
  const paid = []
  for (const run_ms of runMs) {
    const { id } = await market.submit(alice)
    const start = await agent.begin()
    market.clock.advance(run_ms)
    await agent.result(start, { run_ms })
    paid.push((await market.task(alice, id)).payment_id!)
  }
  await agent.disconnect()
  return { payments: paid, gpuId: agent.gpuId }
}

type Receipt = OutputOf<typeof api.payments.receipt>
const receipt = (payment_id: string): Promise<Receipt> => market.ask(alice, api.payments.receipt, { payment_id })

test('both sides see a payment, as sent and as received, and nobody else does', async () => {
  const { payments } = await pay(1_000, 2_000)
  const ids = async (user: TestUser, endpoint: typeof api.payments.list) =>
    (await market.ask(user, endpoint, {})).items.map(({ id }) => id)
  const newestFirst = [...payments].reverse()
  expect(await ids(alice, api.payments.sent)).toEqual(newestFirst)
  expect(await ids(bob, api.payments.received)).toEqual(newestFirst)
  expect([await ids(alice, api.payments.received), await ids(bob, api.payments.sent)]).toEqual([[], []])
  expect([await ids(alice, api.payments.list), await ids(bob, api.payments.list)]).toEqual([newestFirst, newestFirst])
  const stranger = await market.person()
  expect(await ids(stranger, api.payments.list)).toEqual([])
  for (const endpoint of [api.payments.get, api.payments.receipt])
    expect(outcome(await market.attempt(stranger, endpoint, { payment_id: payments[0]! }))).toBe('404 not_found')
})

test('a list of payments is read page by page', async () => {
  const { payments } = await pay(10, 20, 30)
  const first = await market.ask(alice, api.payments.list, { limit: 2 })
  const second = await market.ask(alice, api.payments.list, { limit: 2, cursor: first.next_cursor! })
  expect([...first.items, ...second.items].map(({ id }) => id)).toEqual(payments.reverse())
  expect(second.next_cursor).toBeNull()
})

test('a receipt proves the payment offline, with the fee, against the market’s published key', async () => {
  const { payments } = await pay(12_345)
  const found = await receipt(payments[0]!)
  const { public_key } = await market.ask(null, api.ledger.head, {})
  expect(found.proofs.map(({ transfer }) => [transfer.kind, transfer.amount])).toEqual([
    ['fee', '0.001234'],
    ['settlement', '0.011111'],
  ])
  expect(await verifyReceipt(found)).toEqual({ ok: true })
  expect(await verifyReceipt(found, public_key)).toEqual({ ok: true })
  expect(await verifyReceipt(found, 'A'.repeat(43))).toMatchObject({
    ok: false,
    problem: expect.stringContaining('another market'),
  })
})

const withAnotherStart = (text: string) => text.replace(/^./, (first) => (first === 'A' ? 'B' : 'A'))

test.for<[string, (receipt: Receipt) => void]>([
  ['the amount', (r) => (r.payment.amount = '0.022346')],
  ['the fee', (r) => (r.payment.fee = '0')],
  ['what was refunded', (r) => (r.payment.refunded = '0.001')],
  ['the payer', (r) => (r.payment.payer_id = r.payment.recipient_id)],
  ['the recipient', (r) => (r.payment.recipient_id = r.payment.payer_id)],
  ['the task', (r) => (r.payment.task_id = r.payment.task_id.replace(/.$/, (last) => (last === '0' ? '1' : '0')))],
  ['the transaction hash', (r) => (r.payment.transaction_hash = 'f'.repeat(64))],
  ['a transfer’s amount', (r) => (r.proofs[1]!.transfer.amount = '1')],
  ['a transfer’s time', (r) => (r.proofs[0]!.transfer.created_at = '2020-01-01T00:00:00.000Z')],
  ['a transfer’s place', (r) => (r.proofs[0]!.leaf_index += 1)],
  ['a path', (r) => (r.proofs[0]!.path = r.proofs[0]!.path.map(() => '0'.repeat(64)))],
  ['the batch’s time', (r) => (r.proofs[0]!.batch.committed_at = '2020-01-01T00:00:00.000Z')],
  ['the chain', (r) => (r.proofs[0]!.batch.previous_hash = '0'.repeat(64))],
  ['the signature', (r) => (r.proofs[0]!.batch.signature = withAnotherStart(r.proofs[0]!.batch.signature))],
  ['the key', (r) => (r.public_key = withAnotherStart(r.public_key))],
  ['a proof twice', (r) => r.proofs.push(r.proofs[1]!)],
  ['a proof left out', (r) => r.proofs.pop()],
])('a receipt in which %s was changed does not verify', async ([, tamper]) => {
  const { payments } = await pay(12_345)
  const found = await receipt(payments[0]!)
  tamper(found)
  const check = await verifyReceipt(found).catch((error: unknown) => ({ ok: false, problem: String(error) }))
  expect(check).toMatchObject({ ok: false, problem: expect.stringMatching(/./) })
})

test('earnings are by day and GPU, after the fee and what was refunded', async () => {
  const day = (offsetMs = 0) => new Date(market.clock.now() + offsetMs).toISOString().slice(0, 10)
  // From one noon to the next, so that a run never crosses midnight.
  const noon = Date.parse(`${day()}T12:00:00.000Z`) + 86_400_000
  market.clock.advance(noon - market.clock.now())
  const first = await pay(10_000, 20_000)
  market.clock.advance(86_400_000)
  const second = await pay(40_000)
  const item = { gpu_name: 'the big one' }
  expect(await market.ask(bob, api.payments.earnings, {})).toEqual({
    items: [
      { day: day(), gpu_id: second.gpuId, ...item, tasks: 1, run_ms: 40_000, amount: '0.036' },
      { day: day(-86_400_000), gpu_id: first.gpuId, ...item, tasks: 2, run_ms: 30_000, amount: '0.027' },
    ],
    total: '0.063',
  })
  const admin = await market.admin()
  await market.ask(admin, api.admin.refund, {
    payment_id: second.payments[0]!,
    amount: '0.01',
    reason: 'half of it was noise',
  })
  expect(await market.ask(bob, api.payments.earnings, { from: day(), to: day() })).toMatchObject({ total: '0.027' })
  expect(await market.ask(bob, api.payments.earnings, { to: day(-2 * 86_400_000) })).toEqual({ items: [], total: '0' })
  expect(await market.ask(alice, api.payments.earnings, {})).toEqual({ items: [], total: '0' })
})
