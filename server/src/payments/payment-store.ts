import type { Dispute, Micros, Payment } from '@orbyte/protocol'
import type { Reader, Row, Transaction } from '../db/database.ts'

type PaymentRow = Row & Omit<Payment, 'amount' | 'fee' | 'refunded' | 'price_per_hour'>
type DisputeRow = Row & Omit<Dispute, 'refunded'>

const paymentColumns = `id, task_id, attempt_id, gpu_id, payer_id, recipient_id, amount_micros AS amount, fee_micros AS fee,
  refunded_micros AS refunded, status, run_ms, price_micros_per_hour AS price_per_hour, transaction_hash, review_until,
  created_at, settled_at`
const disputeColumns = `id, payment_id, task_id, opened_by, reason, status, refunded_micros AS refunded, note, decided_by,
  decide_by, created_at, decided_at`

const toPayment = (row: PaymentRow | undefined) => row as unknown as Payment | undefined
const toDispute = (row: DisputeRow | undefined) => row as unknown as Dispute | undefined

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
  return toPayment(await reader.get<PaymentRow>(`SELECT ${paymentColumns} FROM payments WHERE task_id = ?`, taskId))
}

export type Side = 'payer' | 'recipient' | 'either'
const sides: Record<Side, string> = {
  payer: 'payer_id = ?1',
  recipient: 'recipient_id = ?1',
  either: '(payer_id = ?1 OR recipient_id = ?1)',
}

/** Newest first, ids below `before`. */
export async function paymentsOfUser(
  reader: Reader,
  query: { userId: string; side: Side; before: string; limit: number },
) {
  const rows = await reader.all<PaymentRow>(
    `SELECT ${paymentColumns} FROM payments WHERE ${sides[query.side]} AND id < ?2 ORDER BY id DESC LIMIT ?3`,
    ...[query.userId, query.before, query.limit],
  )
  return rows as unknown as Payment[]
}

/** Pending payments whose review time is over, oldest first. */
export async function paymentsDue(reader: Reader, now: string) {
  const rows = await reader.all<PaymentRow>(
    `SELECT ${paymentColumns} FROM payments WHERE status = 'pending' AND review_until <= ? ORDER BY review_until LIMIT 100`,
    now,
  )
  return rows as unknown as Payment[]
}

type EarningRow = Row & { day: string; gpu_id: string; gpu_name: string; tasks: number; run_ms: number; amount: number }

export async function earningsOf(reader: Reader, query: { userId: string; from: string; to: string }) {
  const rows = await reader.all<EarningRow>(
    `SELECT substr(p.settled_at, 1, 10) AS day, p.gpu_id, coalesce(g.name, p.gpu_id) AS gpu_name, count(*) AS tasks,
       sum(p.run_ms) AS run_ms, coalesce(sum((
         SELECT sum(CASE t.kind WHEN 'settlement' THEN t.amount_micros ELSE -t.amount_micros END) FROM transfers t
         WHERE t.task_id = p.task_id AND (t.kind = 'settlement' OR (t.kind = 'refund' AND t.debit_account <> 'fees')))), 0) AS amount
     FROM payments p LEFT JOIN gpus g ON g.id = p.gpu_id
     WHERE p.recipient_id = ? AND p.settled_at >= ? AND p.settled_at < ?
     GROUP BY day, p.gpu_id ORDER BY day DESC, amount DESC`,
    ...[query.userId, query.from, `${query.to}T24`],
  )
  return rows.map((row) => ({ ...row, amount: row.amount as Micros }))
}

export async function insertDispute(tx: Transaction, dispute: Dispute) {
  const d = dispute
  await tx.run(
    `INSERT INTO disputes (id, payment_id, task_id, opened_by, reason, status, decide_by, created_at)
     VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
    ...[d.id, d.payment_id, d.task_id, d.opened_by, d.reason, d.status, d.decide_by, d.created_at],
  )
}

export async function decideDispute(tx: Transaction, dispute: Dispute) {
  const { id, status, refunded, note, decided_by, decided_at } = dispute
  await tx.run(
    `UPDATE disputes SET status = ?, refunded_micros = ?, note = ?, decided_by = ?, decided_at = ? WHERE id = ?`,
    ...[status, refunded, note, decided_by, decided_at, id],
  )
}

export async function disputeById(reader: Reader, id: string) {
  return toDispute(await reader.get<DisputeRow>(`SELECT ${disputeColumns} FROM disputes WHERE id = ?`, id))
}

export async function disputesDue(reader: Reader, now: string) {
  const rows = await reader.all<DisputeRow>(
    `SELECT ${disputeColumns} FROM disputes WHERE status = 'open' AND decide_by <= ? ORDER BY decide_by LIMIT 100`,
    now,
  )
  return rows as unknown as Dispute[]
}

/** Newest first. `userId` null: everybody's. */
export async function listDisputes(
  reader: Reader,
  query: { userId: string | null; status: string | null; before: string; limit: number },
) {
  const rows = await reader.all<DisputeRow>(
    `SELECT ${disputeColumns} FROM disputes d
     WHERE id < ?1 AND (?2 IS NULL OR status = ?2)
       AND (?3 IS NULL OR EXISTS (SELECT 1 FROM payments p WHERE p.id = d.payment_id AND ?3 IN (p.payer_id, p.recipient_id)))
     ORDER BY id DESC LIMIT ?4`,
    ...[query.before, query.status, query.userId, query.limit],
  )
  return rows as unknown as Dispute[]
}
