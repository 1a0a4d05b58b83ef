import { z } from 'zod'
import { endpoint, pageInput, pageOf, Timestamp } from './endpoint.ts'
import { idOf } from './ids.ts'
import { NonNegativeAmount } from './amounts.ts'
import { LedgerBatch, Transfer } from './wallet.ts'

export const PaymentStatus = z.enum(['pending', 'disputed', 'completed', 'refunded']).meta({
  id: 'PaymentStatus',
  description:
    'pending: under review, the amount is held; completed: the provider has it; refunded: the renter has it back.',
})

/** What a user sees of the money that moved for a task. */
export const Payment = z
  .object({
    id: idOf('payment'),
    task_id: idOf('task'),
    attempt_id: idOf('attempt'),
    gpu_id: idOf('gpu'),
    payer_id: idOf('user'),
    recipient_id: idOf('user'),
    amount: NonNegativeAmount.describe('What the task cost, fee included.'),
    fee: NonNegativeAmount.describe('The platform’s part of the amount.'),
    refunded: NonNegativeAmount.describe('What went back to the renter later.'),
    status: PaymentStatus,
    run_ms: z.int().nonnegative().describe('Charged run time in milliseconds.'),
    price_per_hour: NonNegativeAmount,
    transaction_hash: z
      .string()
      .nullable()
      .describe('Hash of the settling transfer: a leaf of the ledger. Null until settled.'),
    review_until: Timestamp.nullable().describe('When it settles by itself, if it waits for your review.'),
    created_at: Timestamp,
    settled_at: Timestamp.nullable(),
  })
  .meta({ id: 'Payment' })
export type Payment = z.output<typeof Payment>

export const TransferProof = z
  .object({
    transfer: Transfer,
    leaf_index: z.int().nonnegative().describe('Its place in the batch, from 0.'),
    leaf_count: z.int().positive(),
    path: z.array(z.string()).describe('Sibling hashes from the leaf to the root, hex.'),
    batch: LedgerBatch,
  })
  .meta({ id: 'TransferProof' })

/** Proves offline that the market's signed ledger holds the payment. See `verifyReceipt`. */
export const Receipt = z
  .object({
    format: z.literal('orbyte-receipt-1'),
    payment: Payment,
    proofs: z.array(TransferProof).min(1),
    public_key: z.string().describe('The market’s Ed25519 public key, base64url.'),
    issued_at: Timestamp,
  })
  .meta({ id: 'Receipt' })
export type Receipt = z.output<typeof Receipt>

export const Dispute = z
  .object({
    id: idOf('dispute'),
    payment_id: idOf('payment'),
    task_id: idOf('task'),
    opened_by: idOf('user'),
    reason: z.string(),
    status: z.enum(['open', 'released', 'refunded', 'split']),
    refunded: NonNegativeAmount.nullable(),
    note: z.string().nullable().describe('The decision’s reason.'),
    decided_by: z.string().nullable(),
    decide_by: Timestamp.describe('If nobody has decided by then, the provider is paid.'),
    created_at: Timestamp,
    decided_at: Timestamp.nullable(),
  })
  .meta({ id: 'Dispute' })
export type Dispute = z.output<typeof Dispute>

export const Earning = z
  .object({
    day: z.iso.date(),
    gpu_id: idOf('gpu'),
    gpu_name: z.string(),
    tasks: z.int().nonnegative(),
    run_ms: z.int().nonnegative(),
    amount: NonNegativeAmount.describe('After the fee.'),
  })
  .meta({ id: 'Earning' })

const list = <const P extends `GET /api/${string}`>(route: P, summary: string) =>
  endpoint(route, { summary, access: 'user', input: z.strictObject({ ...pageInput }), output: pageOf(Payment) })
const paymentId = z.strictObject({ payment_id: idOf('payment') })

export const payments = {
  list: list('GET /api/payments/', 'List all payments, sent and received, newest first'),
  sent: list('GET /api/payments/sent', 'List sent payments'),
  received: list('GET /api/payments/received', 'List received payments'),
  earnings: endpoint('GET /api/payments/earnings', {
    summary: 'What your GPUs earned, by day and GPU',
    access: 'user',
    input: z.strictObject({
      from: z.iso.date().optional().describe('First day (UTC). Default: 30 days ago.'),
      to: z.iso.date().optional().describe('Last day (UTC), included. Default: today.'),
    }),
    output: z.object({ items: z.array(Earning), total: NonNegativeAmount }),
  }),
  get: endpoint('GET /api/payments/{payment_id}', {
    summary: 'Get payment details',
    access: 'user',
    input: paymentId,
    output: Payment,
    errors: ['not_found'],
  }),
  receipt: endpoint('GET /api/payments/{payment_id}/receipt', {
    summary: 'A receipt that anybody can verify offline',
    access: 'user',
    input: paymentId,
    output: Receipt,
    errors: ['not_found', 'payment_not_due'],
  }),
  pay: endpoint('POST /api/payments/{task_id}/pay', {
    summary: 'Create a payment for a task',
    description: 'Settles a task that was submitted with `auto_pay: false` before its review time is over.',
    access: 'user',
    idempotent: true,
    input: z.strictObject({ task_id: idOf('task') }),
    output: Payment,
    errors: ['not_found', 'payment_settled', 'payment_not_due', 'task_not_finished', 'dispute_open'],
  }),
  dispute: endpoint('POST /api/payments/{payment_id}/dispute', {
    summary: 'Dispute a payment that is under review',
    access: 'user',
    status: 201,
    idempotent: true,
    input: paymentId.extend({
      reason: z.string().trim().min(10).max(2_000).describe('What is wrong with the result.'),
    }),
    output: Dispute,
    errors: ['not_found', 'payment_settled', 'dispute_open', 'review_over'],
  }),
  disputes: endpoint('GET /api/disputes/', {
    summary: 'List the disputes that you are a side of',
    access: 'user',
    input: z.strictObject({ ...pageInput }),
    output: pageOf(Dispute),
  }),
}
