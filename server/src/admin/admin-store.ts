import type { Transaction } from '../db/database.ts'

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
