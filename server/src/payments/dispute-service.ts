import { type Dispute, formatOrb, micros, type Micros, type Payment, problem } from '@orbyte/protocol'
import { type Context, isoFromMs, newId, nowIso } from '../context.ts'
import type { Transaction } from '../db/database.ts'
import { transactionOnce } from '../http/idempotency-store.ts'
import { type Page, pageFrom, type PageInput, startOf } from '../http/page.ts'
import type { Caller } from '../http/route.ts'
import * as store from './dispute-store.ts'
import { workOffDue } from './due.ts'
import type { PaymentService } from './payment-service.ts'
import { paymentById, updatePayment } from './payment-store.ts'

export type DisputeService = ReturnType<typeof createDisputeService>

type Decision = { decision: 'release' | 'refund' | 'split'; refundAmount?: Micros; note: string; decidedBy: string }

/** Disputes over payments under review. Until one is decided, or the time to decide is over, the money stays held. */
export function createDisputeService(context: Context, payments: PaymentService) {
  const { database, events, config } = context

  /** The payment, which is under review, is disputed from now on. */
  async function raise(tx: Transaction, payment: Payment, by: { openedBy: string; reason: string }): Promise<Dispute> {
    const now = context.clock.now()
    await updatePayment(tx, { ...payment, status: 'disputed' })
    const dispute: Dispute = {
      id: newId(context, 'dispute'),
      payment_id: payment.id,
      task_id: payment.task_id,
      opened_by: by.openedBy,
      reason: by.reason,
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
      data: { dispute_id: dispute.id, reason: by.reason },
    })
    return dispute
  }

  async function decide(tx: Transaction, dispute: Dispute, by: Decision): Promise<Dispute> {
    const payment = (await paymentById(tx, dispute.payment_id))!
    const refund = by.decision === 'release' ? 0 : by.decision === 'refund' ? payment.amount : (by.refundAmount ?? 0)
    if (by.decision === 'split' && (refund <= 0 || refund >= payment.amount))
      throw problem(
        'invalid_request',
        'refund_amount: a split gives the renter more than nothing and less than all of it.',
      )
    await payments.settle(tx, payment, refund)
    const status = ({ release: 'released', refund: 'refunded', split: 'split' } as const)[by.decision]
    const decided = { ...dispute, status, refunded: micros(refund), note: by.note, decided_by: by.decidedBy }
    const final: Dispute = { ...decided, decided_at: nowIso(context) }
    await store.updateDispute(tx, final)
    await events.append(tx, {
      type: 'dispute.decided',
      task_id: dispute.task_id,
      user_id: payment.payer_id,
      provider_id: payment.recipient_id,
      data: { dispute_id: dispute.id, status, refunded: formatOrb(refund), note: by.note },
    })
    return final
  }

  return {
    /** The caller is the renter. */
    open(caller: Caller, { paymentId, reason }: { paymentId: string; reason: string }): Promise<Dispute> {
      return transactionOnce(context, caller, async (tx) => {
        const payment = await payments.visible(tx, paymentId, caller)
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
        return raise(tx, payment, { openedBy: caller.userId, reason })
      })
    },

    /** The market itself gives back a payment under review: a dispute that is decided as it is opened, so that both sides see why. */
    async refundReviewed(tx: Transaction, payment: Payment, by: { openedBy: string; reason: string; note: string }) {
      const dispute = await raise(tx, payment, by)
      await decide(tx, dispute, { decision: 'refund', note: by.note, decidedBy: 'platform' })
    },

    /** `userId` null: everybody's. */
    list(query: { userId: string | null; status: Dispute['status'] | null }, page: PageInput): Promise<Page<Dispute>> {
      return database.read(async (reader) =>
        pageFrom(
          await store.listDisputes(reader, { ...query, before: startOf(page), limit: page.limit + 1 }),
          page.limit,
        ),
      )
    },

    /** An administrator's decision, within the caller's transaction. */
    async decide(tx: Transaction, disputeId: string, by: Decision): Promise<Dispute> {
      const dispute = await store.disputeById(tx, disputeId)
      if (!dispute) throw problem('not_found', `There is no dispute ${disputeId}.`)
      if (dispute.status !== 'open')
        throw problem('dispute_decided', `${disputeId} was decided at ${dispute.decided_at}.`)
      return decide(tx, dispute, by)
    },

    /** Pays the provider where nobody has decided in time. */
    endDue: (): Promise<void> =>
      workOffDue(context, { what: 'dispute', find: store.disputesDue, handle: releaseUndecided }),
  }

  async function releaseUndecided(tx: Transaction, disputeId: string) {
    const dispute = await store.disputeById(tx, disputeId)
    const note = 'Nobody decided in time, so the provider is paid.'
    if (dispute?.status === 'open') await decide(tx, dispute, { decision: 'release', decidedBy: 'platform', note })
  }
}
