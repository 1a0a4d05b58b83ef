import type { Reader, Transaction } from '../db/database.ts'

/** Keeps who decided what, and why. Written in the transaction of the decision. */
export async function recordAction(
  tx: Transaction,
  action: { adminId: string; action: string; subject: string; reason: string | null; at: string },
) {
  await tx.run(
    'INSERT INTO admin_actions (admin_id, action, subject, reason, created_at) VALUES (?, ?, ?, ?, ?)',
    ...[action.adminId, action.action, action.subject, action.reason, action.at],
  )
}

type ActionRow = {
  seq: number
  admin_id: string
  action: string
  subject: string
  reason: string | null
  created_at: string
}

/** Newest first: those before `before`. */
export function readActions(
  reader: Reader,
  { before, limit }: { before: number; limit: number },
): Promise<ActionRow[]> {
  return reader.all<ActionRow>(
    `SELECT id AS seq, admin_id, action, subject, reason, created_at FROM admin_actions
      WHERE id < ? ORDER BY id DESC LIMIT ?`,
    ...[before, limit],
  )
}
