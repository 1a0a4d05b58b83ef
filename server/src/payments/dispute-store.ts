import type { Dispute } from '@orbyte/protocol'
import type { Reader, Row, Transaction } from '../db/database.ts'
import type { Due, DueAfter } from './due.ts'

type DisputeRow = Row & Omit<Dispute, 'refunded'>

const disputeColumns = `id, payment_id, task_id, opened_by, reason, status, refunded_micros AS refunded, note, decided_by,
  decide_by, created_at, decided_at`

const toDispute = (row: DisputeRow | undefined) => row as unknown as Dispute | undefined

export async function insertDispute(tx: Transaction, dispute: Dispute) {
  const d = dispute
  await tx.run(
    `INSERT INTO disputes (id, payment_id, task_id, opened_by, reason, status, decide_by, created_at)
     VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
    ...[d.id, d.payment_id, d.task_id, d.opened_by, d.reason, d.status, d.decide_by, d.created_at],
  )
}

/** Writes what a decision changes. */
export async function updateDispute(tx: Transaction, dispute: Dispute) {
  const { id, status, refunded, note, decided_by, decided_at } = dispute
  await tx.run(
    `UPDATE disputes SET status = ?, refunded_micros = ?, note = ?, decided_by = ?, decided_at = ? WHERE id = ?`,
    ...[status, refunded, note, decided_by, decided_at, id],
  )
}

export async function disputeById(reader: Reader, id: string) {
  return toDispute(await reader.get<DisputeRow>(`SELECT ${disputeColumns} FROM disputes WHERE id = ?`, id))
}

/** Open disputes whose time to decide is over, oldest first. */
export function disputesDue(reader: Reader, { now, after, limit }: DueAfter): Promise<Due[]> {
  return reader.all<Due>(
    `SELECT id, decide_by AS due FROM disputes
     WHERE status = 'open' AND decide_by <= ? AND (decide_by, id) > (?, ?) ORDER BY decide_by, id LIMIT ?`,
    ...[now, after.due, after.id, limit],
  )
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
