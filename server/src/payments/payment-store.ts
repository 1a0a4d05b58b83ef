import type { Payment } from '@orbyte/protocol'
import { placeOf, type Reader, type Row, type Transaction } from '../db/database.ts'
import { ownedRows, readOwned, rowsOwned } from '../db/owned-rows.ts'
import type { Due, DueAfter } from './due.ts'
import { isPaymentOf } from './payment-ids.ts'

type PaymentRow = Row & Omit<Payment, 'amount' | 'fee' | 'refunded' | 'price_per_hour'>

const paymentColumns = `id, task_id, attempt_id, gpu_id, payer_id, recipient_id, amount_micros AS amount, fee_micros AS fee,
  refunded_micros AS refunded, status, run_ms, price_micros_per_hour AS price_per_hour, transaction_hash, review_until,
  created_at, settled_at`

const toPayment = (row: PaymentRow | undefined) => row as unknown as Payment | undefined

export async function insertPayment(tx: Transaction, payment: Payment) {
  const p = payment
  await tx.run(
    `INSERT INTO payments (id, task_id, attempt_id, gpu_id, payer_id, recipient_id, amount_micros, fee_micros, refunded_micros,
       status, run_ms, price_micros_per_hour, transaction_hash, review_until, created_at, settled_at)
     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
    ...[
      p.id,
      p.task_id,
      p.attempt_id,
      p.gpu_id,
      p.payer_id,
      p.recipient_id,
      p.amount,
      p.fee,
      p.refunded,
      p.status,
      p.run_ms,
    ],
    ...[p.price_per_hour, p.transaction_hash, p.review_until, p.created_at, p.settled_at],
  )
}

/** Writes what can change of a payment. */
export async function updatePayment(tx: Transaction, payment: Payment) {
  const { id, fee, refunded, status, transaction_hash, review_until, settled_at } = payment
  await tx.run(
    `UPDATE payments SET fee_micros = ?, refunded_micros = ?, status = ?, transaction_hash = ?, review_until = ?, settled_at = ?
     WHERE id = ?`,
    ...[fee, refunded, status, transaction_hash, review_until, settled_at, id],
  )
}

export async function paymentById(reader: Reader, id: string) {
  return toPayment(await reader.get<PaymentRow>(`SELECT ${paymentColumns} FROM payments WHERE id = ?`, id))
}

export async function paymentOfTask(reader: Reader, taskId: string) {
  const ofTask = `SELECT ${paymentColumns} FROM payments p WHERE ${isPaymentOf('p', '?1')}`
  return toPayment(await reader.get<PaymentRow>(ofTask, taskId))
}

export type Side = 'payer' | 'recipient' | 'either'
const sides = {
  payer: { list: ownedRows.paymentsOfPayer, where: 'payer_id = ?1' },
  recipient: { list: ownedRows.paymentsOfRecipient, where: 'recipient_id = ?1' },
}

type PaymentsOfUser = { userId: string; side: Side; before: string; limit: number }

/** Newest first, from the one before the payment `before` on. */
export async function paymentsOfUser(reader: Reader, { userId, side, before, limit }: PaymentsOfUser) {
  const found = new Map<number, PaymentRow>()
  for (const one of side === 'either' ? (['payer', 'recipient'] as const) : [side]) {
    const rows = await readOwned<PaymentRow & { place: number }>(reader, {
      ...sides[one],
      ...{ select: `${paymentColumns}, t.rowid AS place`, owner: '?1', before: placeOf('payments', '?2') },
      ...{ params: [userId, before], limit },
    })
    for (const { place, ...payment } of rows) found.set(place, payment as unknown as PaymentRow)
  }
  const newestFirst = [...found].sort(([a], [b]) => b - a).slice(0, limit)
  return newestFirst.map(([, payment]) => payment) as unknown as Payment[]
}

/** Pending payments whose review time is over, oldest first. */
export function paymentsDue(reader: Reader, { now, after, limit }: DueAfter): Promise<Due[]> {
  return reader.all<Due>(
    `SELECT id, review_until AS due FROM payments
     WHERE status = 'pending' AND review_until <= ? AND (review_until, id) > (?, ?) ORDER BY review_until, id LIMIT ?`,
    ...[now, after.due, after.id, limit],
  )
}

/** How many payments to a user are not settled yet, and when the last of them is due; null where none is. */
export async function unsettledOfRecipient(reader: Reader, userId: string) {
  const row = await reader.get<{ count: number; due: string | null }>(
    `SELECT count(*) AS count, max(coalesce(d.decide_by, p.review_until)) AS due
     FROM payments p LEFT JOIN disputes d ON d.payment_id = p.id
     WHERE p.recipient_id = ? AND p.status IN ('pending', 'disputed')`,
    userId,
  )
  return row!
}

/** `amount`: micro-ORB. */
export type EarningRow = {
  day: string
  gpu_id: string
  gpu_name: string
  tasks: number
  run_ms: number
  amount: number
}
type Range = { userId: string; from: string; to: string }

/** What a payment brought, after the fee and what was refunded. */
const earned = `coalesce((
  SELECT sum(CASE t.kind WHEN 'settlement' THEN t.amount_micros ELSE -t.amount_micros END) FROM transfers t
  WHERE t.task_id = p.task_id AND (t.kind = 'settlement' OR (t.kind = 'refund' AND t.debit_account <> 'fees'))), 0)`
const settledIn = `p.rowid IN (${rowsOwned(ownedRows.paymentsOfRecipient, '?1')}) AND p.recipient_id = ?1
  AND p.settled_at >= ?2 AND p.settled_at < ?3`
const hasSeveral = 'EXISTS (SELECT 1 FROM attempt_gpus m WHERE m.attempt_id = p.attempt_id AND m.place = 1)'
const paramsOf = ({ userId, from, to }: Range) => [userId, from, `${to}T24`]

/** By day and GPU, of what ran on one GPU. */
export function earningsOfOne(reader: Reader, range: Range): Promise<EarningRow[]> {
  return reader.all<Row & EarningRow>(
    `SELECT substr(p.settled_at, 1, 10) AS day, p.gpu_id, coalesce(g.name, p.gpu_id) AS gpu_name, count(*) AS tasks,
       sum(p.run_ms) AS run_ms, sum(${earned}) AS amount
     FROM payments p LEFT JOIN gpus g ON g.id = p.gpu_id
     WHERE ${settledIn} AND NOT ${hasSeveral} GROUP BY day, p.gpu_id`,
    ...paramsOf(range),
  )
}

/** A row for each GPU of what ran on several. `amount`: of the payment; `price`: what the GPU asked of it. */
export function earningsOfSeveral(reader: Reader, range: Range) {
  return reader.all<Row & EarningRow & { payment_id: string; price: number }>(
    `SELECT p.id AS payment_id, substr(p.settled_at, 1, 10) AS day, s.gpu_id, coalesce(g.name, s.gpu_id) AS gpu_name, 1 AS tasks,
       p.run_ms, ${earned} AS amount, s.price_micros_per_hour AS price
     FROM payments p JOIN attempt_gpus s ON s.attempt_id = p.attempt_id LEFT JOIN gpus g ON g.id = s.gpu_id
     WHERE ${settledIn} AND ${hasSeveral} ORDER BY p.rowid, s.place`,
    ...paramsOf(range),
  )
}
