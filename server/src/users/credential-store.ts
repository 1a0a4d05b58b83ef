import type { Reader, Row, Transaction } from '../db/database.ts'

/** API keys and agent tokens are stored alike: what they open differs. */
export type CredentialKind = 'apiKey' | 'agentToken'
const tables = { apiKey: 'api_keys', agentToken: 'agent_tokens' } as const satisfies Record<CredentialKind, string>

export type CredentialRow = Row & {
  id: string
  user_id: string
  name: string
  prefix: string
  secret_hash: string
  created_at: string
  last_used_at: string | null
  expires_at: string | null
}

export async function insertCredential(tx: Transaction, kind: CredentialKind, row: CredentialRow): Promise<void> {
  await tx.run(
    `INSERT INTO ${tables[kind]} (id, user_id, name, prefix, secret_hash, created_at, last_used_at, expires_at)
     VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
    ...[row.id, row.user_id, row.name, row.prefix, row.secret_hash, row.created_at, row.last_used_at, row.expires_at],
  )
}

export function credentialByHash(
  reader: Reader,
  kind: CredentialKind,
  secretHash: string,
): Promise<CredentialRow | undefined> {
  return reader.get<CredentialRow>(`SELECT * FROM ${tables[kind]} WHERE secret_hash = ?`, secretHash)
}

/** Newest first. */
export function credentialsBefore(
  reader: Reader,
  kind: CredentialKind,
  query: { userId: string; before: string; limit: number },
): Promise<CredentialRow[]> {
  return reader.all<CredentialRow>(
    `SELECT * FROM ${tables[kind]} WHERE user_id = ? AND id < ? ORDER BY id DESC LIMIT ?`,
    ...[query.userId, query.before, query.limit],
  )
}

export function credentialsOf(reader: Reader, kind: CredentialKind, userId: string): Promise<CredentialRow[]> {
  return reader.all<CredentialRow>(`SELECT * FROM ${tables[kind]} WHERE user_id = ? ORDER BY id DESC`, userId)
}

export async function setCredentialLastUsed(
  tx: Transaction,
  kind: CredentialKind,
  { id, at }: { id: string; at: string },
): Promise<void> {
  await tx.run(`UPDATE ${tables[kind]} SET last_used_at = ? WHERE id = ?`, at, id)
}

/** Returns how many there were: none, if it is somebody else's. */
export function deleteCredential(
  tx: Transaction,
  kind: CredentialKind,
  { id, userId }: { id: string; userId: string },
): Promise<number> {
  return tx.run(`DELETE FROM ${tables[kind]} WHERE id = ? AND user_id = ?`, id, userId)
}

export async function deleteCredentialsOf(tx: Transaction, userId: string): Promise<void> {
  for (const table of Object.values(tables)) await tx.run(`DELETE FROM ${table} WHERE user_id = ?`, userId)
}
