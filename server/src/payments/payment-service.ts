import { formatOrb, micros, type Micros, Payment, problem, type Receipt } from '@orbyte/protocol'
import { z } from 'zod'
import { type Context, isoFromMs, nowIso } from '../context.ts'
import type { Reader, Transaction } from '../db/database.ts'
import { transactionOnce } from '../http/idempotency-store.ts'
import { type Page, pageFrom, type PageInput, startOf } from '../http/page.ts'
import type { Caller } from '../http/route.ts'
import { available, type Ledger } from '../ledger/ledger-service.ts'
import type { AccountService } from '../users/account-service.ts'
import type { UserService } from '../users/user-service.ts'
import { workOffDue } from './due.ts'
import { earningsOf } from './earnings.ts'
import { paymentIdOf } from './payment-ids.ts'
import * as store from './payment-store.ts'
import { feeOf } from './pricing.ts'

/** Newest payments in an account's export; the rest is in GET /api/payments/. */
const exportedMax = 10_000

export type PaymentService = ReturnType<typeof createPaymentService>

/** What a task cost, and whom. */
export type Charge = {
  task_id: string
  attempt_id: string
  gpu_id: string
  payer_id: string
  recipient_id: string
  cost: Micros
  run_ms: number
  price_per_hour: Micros
  auto_pay: boolean
}

type Parts = { ledger: Ledger; users: UserService; accounts: AccountService }

/** Payments: what users see of the money that moved for a task. The money itself is the ledger's. */
export function createPaymentService(context: Context, { ledger, users, accounts }: Parts) {
  const { database, events, config } = context

  /** Pays the provider what the hold still has of this payment, less `refund`, which goes back to the renter. */
  async function settle(tx: Transaction, payment: Payment, refund = 0): Promise<Payment> {
    const settled = await payOut(tx, payment, { refund, reason: 'dispute' })
    await store.updatePayment(tx, settled)
    await tell(tx, settled.status === 'completed' ? 'payment.settled' : 'payment.refunded', settled)
    return settled
  }

  /** Moves the money of a payment, and gives back what the hold has beyond it. Returns the payment as it is to be stored. */
  async function payOut(tx: Transaction, payment: Payment, how: { refund: number; reason: string }): Promise<Payment> {
    const { task_id: taskId, recipient_id: providerId } = payment
    const refunded = micros(how.refund)
    const cost = micros(payment.amount - refunded)
    const fee = feeOf(cost, config.feeBasisPoints)
    const hash = await ledger.settle(tx, { taskId, providerId, cost, fee, reason: how.reason })
    return {
      ...payment,
      fee,
      refunded,
      status: cost > 0 ? 'completed' : 'refunded',
      transaction_hash: hash,
      review_until: null,
      settled_at: nowIso(context),
    }
  }

  function tell(tx: Transaction, type: 'payment.pending' | 'payment.settled' | 'payment.refunded', payment: Payment) {
    const { id, status, amount, fee, refunded, transaction_hash } = payment
    const money = { amount: formatOrb(amount), fee: formatOrb(fee), refunded: formatOrb(refunded) }
    return events.append(tx, {
      type,
      task_id: payment.task_id,
      attempt_id: payment.attempt_id,
      user_id: payment.payer_id,
      provider_id: payment.recipient_id,
      data: { payment_id: id, status, transaction_hash, ...money },
    })
  }

  /** The payment, if the caller is a side of it or an administrator. */
  async function visible(reader: Reader, paymentId: string, caller: Pick<Caller, 'userId' | 'role'>): Promise<Payment> {
    const payment = await store.paymentById(reader, paymentId)
    if (!payment || (caller.role !== 'admin' && ![payment.payer_id, payment.recipient_id].includes(caller.userId)))
      throw problem('not_found', `There is no payment ${paymentId} of yours. List yours with GET /api/payments/.`)
    return payment
  }

  accounts.onClose(assertPaid)
  accounts.contribute('payments', async (reader, userId) => {
    const query = { userId, side: 'either' as const, before: startOf({ limit: exportedMax }), limit: exportedMax }
    return z.encode(z.array(Payment), await store.paymentsOfUser(reader, query))
  })

  return {
    /**
     * Charges an ended task within the transaction that ends it: gives back what it did not cost, and pays the provider, now or
     * after the review. A cost of nothing makes no payment.
     */
    async charge(tx: Transaction, charge: Charge): Promise<Payment | null> {
      const { cost, auto_pay } = charge
      if (cost === 0 || !auto_pay) await ledger.release(tx, { taskId: charge.task_id, keep: cost, reason: 'end' })
      if (cost === 0) return null
      const now = context.clock.now()
      const due: Payment = {
        id: paymentIdOf(charge.task_id),
        task_id: charge.task_id,
        attempt_id: charge.attempt_id,
        gpu_id: charge.gpu_id,
        payer_id: charge.payer_id,
        recipient_id: charge.recipient_id,
        run_ms: charge.run_ms,
        price_per_hour: charge.price_per_hour,
        amount: cost,
        fee: micros(0),
        refunded: micros(0),
        status: 'pending',
        transaction_hash: null,
        review_until: auto_pay ? null : isoFromMs(now + config.timing.reviewMs),
        created_at: isoFromMs(now),
        settled_at: null,
      }
      const payment = auto_pay ? await payOut(tx, due, { refund: 0, reason: 'end' }) : due
      await store.insertPayment(tx, payment)
      await tell(tx, auto_pay ? 'payment.settled' : 'payment.pending', payment)
      return payment
    },

    ofTask: store.paymentOfTask,
    settle,
    visible,

    list(caller: Caller, side: store.Side, page: PageInput): Promise<Page<Payment>> {
      const query = { userId: caller.userId, side, before: startOf(page), limit: page.limit + 1 }
      return database.read(async (reader) => pageFrom(await store.paymentsOfUser(reader, query), page.limit))
    },

    get(caller: Caller, paymentId: string): Promise<Payment> {
      return database.read((reader) => visible(reader, paymentId, caller))
    },

    receipt(caller: Caller, paymentId: string): Promise<Receipt> {
      return database.read(async (reader) => {
        const payment = await visible(reader, paymentId, caller)
        if (payment.transaction_hash === null)
          throw problem(
            'payment_not_due',
            'Nothing has been paid yet, so there is no receipt. It exists once the payment is completed.',
          )
        return {
          format: 'orbyte-receipt-1',
          payment,
          proofs: await ledger.proofsOf(reader, payment.task_id),
          public_key: ledger.publicKey,
          issued_at: nowIso(context),
        }
      })
    },

    async earnings(caller: Caller, range: { from?: string; to?: string }) {
      const dayMs = 86_400_000
      const now = context.clock.now()
      const from = range.from ?? isoFromMs(now - 30 * dayMs).slice(0, 10)
      const to = range.to ?? isoFromMs(now).slice(0, 10)
      const items = await database.read((reader) => earningsOf(reader, { userId: caller.userId, from, to }))
      return { items, total: micros(items.reduce((sum, { amount }) => sum + amount, 0)) }
    },

    /** Settles a payment under review at once. The caller is the renter. */
    pay(caller: Caller, taskId: string): Promise<Payment> {
      return transactionOnce(context, caller, async (tx) => {
        const payment = await store.paymentOfTask(tx, taskId)
        if (!payment || payment.payer_id !== caller.userId) throw await notPayable(tx, caller, taskId)
        if (payment.status === 'disputed')
          throw problem('dispute_open', 'The payment is under dispute. An administrator decides.')
        if (payment.status !== 'pending') throw problem('payment_settled', `${taskId} has been paid already.`)
        return settle(tx, payment)
      })
    },

    /** Gives a renter money back from a settled payment: from the provider and the fee in proportion. */
    async refund(tx: Transaction, paymentId: string, amount?: Micros): Promise<Payment> {
      const payment = await store.paymentById(tx, paymentId)
      if (!payment) throw problem('not_found', `There is no payment ${paymentId}.`)
      if (payment.status !== 'completed') throw problem('payment_not_due', 'Only a settled payment can be refunded.')
      const back = amount ?? micros(payment.amount - payment.refunded)
      if (back <= 0 || payment.refunded + back > payment.amount)
        throw problem('payment_not_due', 'That is more than the payment has left to give back.')
      if ((await users.find(tx, payment.payer_id))?.status === 'closed')
        throw problem('payment_not_due', 'The renter has closed the account: there is nobody to give it back to.')
      await giveBack(tx, payment, back)
      const refunded = micros(payment.refunded + back)
      const next: Payment = { ...payment, refunded, status: refunded === payment.amount ? 'refunded' : 'completed' }
      await store.updatePayment(tx, next)
      await tell(tx, 'payment.refunded', next)
      return next
    },

    /** Settles what nobody has reviewed in time. */
    settleDue: (): Promise<void> =>
      workOffDue(context, { what: 'payment', find: store.paymentsDue, handle: settleUnreviewed }),
  }

  async function settleUnreviewed(tx: Transaction, paymentId: string) {
    const payment = await store.paymentById(tx, paymentId)
    if (payment?.status === 'pending') await settle(tx, payment)
  }

  /** Why there is nothing to pay for a task. */
  async function notPayable(reader: Reader, { userId }: Caller, taskId: string) {
    const hold = await ledger.remainder(reader, taskId)
    if (hold?.userId !== userId)
      return problem('not_found', `There is no task ${taskId} of yours. List yours with GET /api/tasks/.`)
    return hold.rest > 0
      ? problem('task_not_finished', `${taskId} has not ended yet: there is nothing to pay so far.`)
      : problem('payment_not_due', `${taskId} cost nothing, so there is nothing to pay.`)
  }

  /** Moves money back to the renter: from the provider and the fees, in proportion to what they still have of the payment. */
  async function giveBack(tx: Transaction, payment: Payment, back: Micros) {
    const kept = await ledger.keptOf(tx, payment.task_id)
    const total = BigInt(kept.fee + kept.provider)
    const feePart = micros(Number((BigInt(kept.fee) * BigInt(back)) / total))
    const credit = available(payment.payer_id)
    const providerPart = micros(back - feePart)
    await needProvider(tx, payment.recipient_id, providerPart)
    const key = `refund:${payment.task_id}:${payment.refunded}`
    await coverFees(tx, feePart, `cover:${payment.id}:${payment.refunded}`)
    const parts = [
      { debit: 'fees', amount: feePart, key: `${key}:fee` },
      { debit: available(payment.recipient_id), amount: providerPart, key },
    ]
    for (const part of parts)
      if (part.amount > 0) await ledger.transfer(tx, { kind: 'refund', credit, taskId: payment.task_id, ...part })
  }

  /** What the market has spent of its fees on checks of its own, it brings back where a renter has a claim to it. */
  async function coverFees(tx: Transaction, amount: Micros, key: string) {
    const missing = micros(amount - (await ledger.balanceOf(tx, 'fees')))
    if (missing <= 0) return
    const parts = { debit: 'external', credit: 'fees', amount: missing, key }
    await ledger.transfer(tx, { kind: 'audit', ...parts })
  }

  /** Nobody but the provider can bring what is missing. */
  async function needProvider(tx: Transaction, providerId: string, amount: Micros) {
    const balance = await ledger.balanceOf(tx, available(providerId))
    if (balance >= amount) return
    const [needed, there] = [formatOrb(amount), formatOrb(balance)]
    throw problem(
      'insufficient_funds',
      `The refund takes ${needed} ORB from the provider, who has ${there} ORB. Refund less ("amount"), or later, once the provider has as much.`,
      { needed, balance: there },
    )
  }
}

/** Nobody closes an account before the last payment to it is settled. */
async function assertPaid(tx: Transaction, userId: string) {
  const { count, due } = await store.unsettledOfRecipient(tx, userId)
  if (count === 0) return
  throw problem(
    'account_has_obligations',
    `You are still to be paid: ${count} of your payments ${count === 1 ? 'is' : 'are'} under review or dispute (GET /api/payments/received). Wait until all are settled (the last is due at ${due}), withdraw what they bring, then close the account.`,
    { payments: count, due },
  )
}
