import type { Reader, Row, Transaction } from '../db/database.ts'

/** A login. The family hash stays for the session's life, the refresh token's hash changes with every use. */
export type SessionRow = Row & {
  id: string
  user_id: string
  family_hash: string
  refresh_token_hash: string
  user_agent: string | null
  created_at: string
  last_used_at: string
  expires_at: string
}

export async function insertSession(tx: Transaction, session: SessionRow): Promise<void> {
  await tx.run(
    `INSERT INTO sessions (id, user_id, family_hash, refresh_token_hash, user_agent, created_at, last_used_at, expires_at)
     VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
    ...[session.id, session.user_id, session.family_hash, session.refresh_token_hash, session.user_agent],
    ...[session.created_at, session.last_used_at, session.expires_at],
  )
}

export function sessionById(reader: Reader, id: string): Promise<SessionRow | undefined> {
  return reader.get<SessionRow>('SELECT * FROM sessions WHERE id = ?', id)
}

export function sessionByFamily(reader: Reader, familyHash: string): Promise<SessionRow | undefined> {
  return reader.get<SessionRow>('SELECT * FROM sessions WHERE family_hash = ?', familyHash)
}

/** Those that have not expired, newest first. */
export function sessionsOf(reader: Reader, userId: string, now: string): Promise<SessionRow[]> {
  return reader.all<SessionRow>(
    'SELECT * FROM sessions WHERE user_id = ? AND expires_at > ? ORDER BY id DESC',
    ...[userId, now],
  )
}

export async function rotateRefreshToken(
  tx: Transaction,
  session: { id: string; refreshTokenHash: string; at: string; expiresAt: string },
): Promise<void> {
  await tx.run(
    'UPDATE sessions SET refresh_token_hash = ?, last_used_at = ?, expires_at = ? WHERE id = ?',
    ...[session.refreshTokenHash, session.at, session.expiresAt, session.id],
  )
}

export async function setSessionLastUsed(tx: Transaction, id: string, at: string): Promise<void> {
  await tx.run('UPDATE sessions SET last_used_at = ? WHERE id = ?', at, id)
}

/** Returns how many there were: none, if it is somebody else's. */
export function deleteSession(tx: Transaction, id: string, userId: string): Promise<number> {
  return tx.run('DELETE FROM sessions WHERE id = ? AND user_id = ?', id, userId)
}

/** All of a user's sessions but `keptId`. */
export function deleteSessionsOf(tx: Transaction, userId: string, keptId: string | null): Promise<number> {
  return tx.run('DELETE FROM sessions WHERE user_id = ? AND id IS NOT ?', userId, keptId)
}

/** The expired ones, and those beyond the `kept` that were used last. */
export function deleteStaleSessions(
  tx: Transaction,
  { userId, now, kept }: { userId: string; now: string; kept: number },
): Promise<number> {
  return tx.run(
    `DELETE FROM sessions WHERE user_id = ? AND (expires_at <= ? OR id NOT IN
       (SELECT id FROM sessions WHERE user_id = ? ORDER BY last_used_at DESC, id DESC LIMIT ?))`,
    ...[userId, now, userId, kept],
  )
}
