import { type Dispute, formatOrb, micros, type Micros, Payment, problem, type Receipt } from '@orbyte/protocol'
import { z } from 'zod'
import { type Context, isoFromMs, newId, nowIso } from '../context.ts'
import type { Reader, Transaction } from '../db/database.ts'
import { transactionOnce } from '../http/idempotency-store.ts'
import { type Page, pageFrom, type PageInput, startOf } from '../http/page.ts'
import type { Caller } from '../http/route.ts'
import { available, type Ledger } from '../ledger/ledger-service.ts'
import type { AccountService } from '../users/account-service.ts'
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

/** Payments: what users see of the money that moved for a task. The money itself is the ledger's. */
export function createPaymentService(context: Context, ledger: Ledger, accounts: AccountService) {
  const { database, events, config } = context

  /** Pays the provider what the hold still has of this payment, less `refund`, which goes back to the renter. */
  async function settle(tx: Transaction, payment: Payment, refund = 0): Promise<Payment> {
    const { task_id } = payment
    if (refund > 0) await ledger.release(tx, { taskId: task_id, amount: micros(refund), reason: 'dispute' })
    const cost = micros(payment.amount - refund)
    const fee = feeOf(cost, config.feeBasisPoints)
    const hash =
      cost > 0 ? await ledger.settle(tx, { taskId: task_id, providerId: payment.recipient_id, cost, fee }) : null
    const settled: Payment = {
      ...payment,
      fee,
      refunded: micros(refund),
      status: cost > 0 ? 'completed' : 'refunded',
      transaction_hash: hash,
      review_until: null,
      settled_at: nowIso(context),
    }
    await store.updatePayment(tx, settled)
    await tell(tx, cost > 0 ? 'payment.settled' : 'payment.refunded', settled)
    return settled
  }

  function tell(tx: Transaction, type: 'payment.pending' | 'payment.settled' | 'payment.refunded', payment: Payment) {
    const { id, status, amount, fee, refunded, transaction_hash } = payment
    return events.append(tx, {
      type,
      task_id: payment.task_id,
      attempt_id: payment.attempt_id,
      user_id: payment.payer_id,
      provider_id: payment.recipient_id,
      data: {
        payment_id: id,
        status,
        transaction_hash,
        amount: formatOrb(amount),
        fee: formatOrb(fee),
        refunded: formatOrb(refunded),
      },
    })
  }

  async function visible(reader: Reader, paymentId: string, caller: Pick<Caller, 'userId' | 'role'>): Promise<Payment> {
    const payment = await store.paymentById(reader, paymentId)
    if (!payment || (caller.role !== 'admin' && ![payment.payer_id, payment.recipient_id].includes(caller.userId)))
      throw problem('not_found', `There is no payment ${paymentId} of yours. List yours with GET /api/payments/.`)
    return payment
  }

  async function decide(tx: Transaction, dispute: Dispute, by: Decision): Promise<Dispute> {
    const payment = (await store.paymentById(tx, dispute.payment_id))!
    const refund = by.decision === 'release' ? 0 : by.decision === 'refund' ? payment.amount : (by.refundAmount ?? 0)
    if (by.decision === 'split' && (refund <= 0 || refund >= payment.amount))
      throw problem(
        'invalid_request',
        'refund_amount: a split gives the renter more than nothing and less than all of it.',
      )
    await settle(tx, payment, refund)
    const status = ({ release: 'released', refund: 'refunded', split: 'split' } as const)[by.decision]
    const decided = { ...dispute, status, refunded: micros(refund), note: by.note, decided_by: by.decidedBy }
    const final: Dispute = { ...decided, decided_at: nowIso(context) }
    await store.decideDispute(tx, final)
    await events.append(tx, {
      type: 'dispute.decided',
      task_id: dispute.task_id,
      user_id: payment.payer_id,
      provider_id: payment.recipient_id,
      data: { dispute_id: dispute.id, status, refunded: formatOrb(refund), note: by.note },
    })
    return final
  }

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
      const hold = await ledger.remainder(tx, charge.task_id)
      const excess = micros(hold!.rest - charge.cost)
      if (excess > 0) await ledger.release(tx, { taskId: charge.task_id, amount: excess, reason: 'end' })
      if (charge.cost === 0) return null
      const now = context.clock.now()
      const { auto_pay, cost, ...fields } = charge
      const payment: Payment = {
        ...fields,
        id: newId(context, 'payment'),
        amount: cost,
        fee: micros(0),
        refunded: micros(0),
        status: 'pending',
        transaction_hash: null,
        review_until: auto_pay ? null : isoFromMs(now + config.timing.reviewMs),
        created_at: isoFromMs(now),
        settled_at: null,
      }
      await store.insertPayment(tx, payment)
      if (auto_pay) return settle(tx, payment)
      await tell(tx, 'payment.pending', payment)
      return payment
    },

    ofTask: store.paymentOfTask,

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
      const items = await database.read((reader) => store.earningsOf(reader, { userId: caller.userId, from, to }))
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

    /** Opens a dispute: the money stays held until somebody decides, or the time to decide is over. */
    dispute(caller: Caller, { paymentId, reason }: { paymentId: string; reason: string }): Promise<Dispute> {
      return transactionOnce(context, caller, async (tx) => {
        const payment = await visible(tx, paymentId, caller)
        if (payment.payer_id !== caller.userId) throw problem('not_found', 'Only the renter can dispute a payment.')
        if (payment.status === 'disputed') throw problem('dispute_open', 'This payment is under dispute already.')
        if (payment.status !== 'pending')
          throw problem(
            'payment_settled',
            'The payment is settled. Submit with "auto_pay": false to get time for a review.',
          )
        const now = context.clock.now()
        if (payment.review_until !== null && payment.review_until <= isoFromMs(now))
          throw problem('review_over', 'The time to review this payment is over.')
        await store.updatePayment(tx, { ...payment, status: 'disputed' })
        const dispute: Dispute = {
          id: newId(context, 'dispute'),
          payment_id: payment.id,
          task_id: payment.task_id,
          opened_by: caller.userId,
          reason,
          status: 'open',
          refunded: null,
          note: null,
          decided_by: null,
          decide_by: isoFromMs(now + config.timing.disputeMs),
          created_at: isoFromMs(now),
          decided_at: null,
        }
        await store.insertDispute(tx, dispute)
        await events.append(tx, {
          type: 'dispute.opened',
          task_id: payment.task_id,
          user_id: payment.payer_id,
          provider_id: payment.recipient_id,
          data: { dispute_id: dispute.id, reason },
        })
        return dispute
      })
    },

    disputes(query: { userId: string | null; status: Dispute['status'] | null }, page: PageInput) {
      return database.read(async (reader) =>
        pageFrom(
          await store.listDisputes(reader, { ...query, before: startOf(page), limit: page.limit + 1 }),
          page.limit,
        ),
      )
    },

    /** An administrator's decision, within the caller's transaction. */
    async decideDispute(tx: Transaction, disputeId: string, by: Decision): Promise<Dispute> {
      const dispute = await store.disputeById(tx, disputeId)
      if (!dispute) throw problem('not_found', `There is no dispute ${disputeId}.`)
      if (dispute.status !== 'open')
        throw problem('dispute_decided', `${disputeId} was decided at ${dispute.decided_at}.`)
      return decide(tx, dispute, by)
    },

    /** Gives a renter money back from a settled payment: from the provider and the fee in proportion. */
    async refund(tx: Transaction, paymentId: string, amount?: Micros): Promise<Payment> {
      const payment = await store.paymentById(tx, paymentId)
      if (!payment) throw problem('not_found', `There is no payment ${paymentId}.`)
      if (payment.status !== 'completed') throw problem('payment_not_due', 'Only a settled payment can be refunded.')
      const back = amount ?? micros(payment.amount - payment.refunded)
      if (back <= 0 || payment.refunded + back > payment.amount)
        throw problem('payment_not_due', 'That is more than the payment has left to give back.')
      await giveBack(tx, payment, back)
      const refunded = micros(payment.refunded + back)
      const next: Payment = { ...payment, refunded, status: refunded === payment.amount ? 'refunded' : 'completed' }
      await store.updatePayment(tx, next)
      await tell(tx, 'payment.refunded', next)
      return next
    },

    /** Settles what nobody has reviewed or decided in time. Each in a transaction of its own. */
    async settleDue(): Promise<void> {
      const now = nowIso(context)
      for (let more = true; more;) {
        const due = await database.read(async (reader) => ({
          payments: await store.paymentsDue(reader, now),
          disputes: await store.disputesDue(reader, now),
        }))
        for (const { id } of due.payments) await database.transaction((tx) => settleUnreviewed(tx, id))
        for (const { id } of due.disputes) await database.transaction((tx) => releaseUndecided(tx, id))
        more = due.payments.length + due.disputes.length > 0
      }
    },
  }

  async function settleUnreviewed(tx: Transaction, paymentId: string) {
    const payment = await store.paymentById(tx, paymentId)
    if (payment?.status === 'pending') await settle(tx, payment)
  }

  async function releaseUndecided(tx: Transaction, disputeId: string) {
    const dispute = await store.disputeById(tx, disputeId)
    const note = 'Nobody decided in time, so the provider is paid.'
    if (dispute?.status === 'open') await decide(tx, dispute, { decision: 'release', decidedBy: 'platform', note })
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
    const key = `refund:${payment.id}:${payment.refunded}`
    const parts = [
      { debit: 'fees', amount: feePart, key: `${key}:fee` },
      { debit: available(payment.recipient_id), amount: micros(back - feePart), key },
    ]
    for (const part of parts)
      if (part.amount > 0) await ledger.transfer(tx, { kind: 'refund', credit, taskId: payment.task_id, ...part })
  }
}

type Decision = { decision: 'release' | 'refund' | 'split'; refundAmount?: Micros; note: string; decidedBy: string }
