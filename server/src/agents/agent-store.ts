import type { Reader, Row, Transaction } from '../db/database.ts'

export type StoredAgent = {
  readonly id: string
  readonly owner_id: string
  readonly public_key: string
  readonly hostname: string
  readonly os: string
  readonly version: string
  readonly region: string | null
  readonly status: 'active' | 'suspended' | 'revoked'
  readonly suspended_reason: string | null
  readonly created_at: string
  readonly last_seen_at: string | null
}
type AgentRow = Row & StoredAgent
/** What is in memory of one that is here: there are thousands. */
export type AgentHere = Pick<StoredAgent, 'id' | 'owner_id' | 'hostname' | 'version' | 'region'>

export function agentByKey(reader: Reader, publicKey: string): Promise<StoredAgent | undefined> {
  return reader.get<AgentRow>('SELECT * FROM agents WHERE public_key = ?', publicKey)
}

export function agentById(reader: Reader, id: string): Promise<StoredAgent | undefined> {
  return reader.get<AgentRow>('SELECT * FROM agents WHERE id = ?', id)
}

/** Newest first, ids below `before`. */
export function agentsOfOwner(
  reader: Reader,
  query: { ownerId: string; before: string; limit: number },
): Promise<StoredAgent[]> {
  return reader.all<AgentRow>(
    'SELECT * FROM agents WHERE owner_id = ? AND id < ? ORDER BY id DESC LIMIT ?',
    ...[query.ownerId, query.before, query.limit],
  )
}

/** Writes a new agent, or what may have changed of a known one. */
export async function putAgent(tx: Transaction, agent: StoredAgent) {
  const a = agent
  await tx.run(
    `INSERT INTO agents (id, owner_id, public_key, hostname, os, version, region, status, created_at, last_seen_at)
     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
     ON CONFLICT (id) DO UPDATE SET hostname = excluded.hostname, os = excluded.os, version = excluded.version,
       region = excluded.region, last_seen_at = excluded.last_seen_at`,
    ...[a.id, a.owner_id, a.public_key, a.hostname, a.os, a.version, a.region, a.status, a.created_at, a.last_seen_at],
  )
}

export async function setAgentStatus(
  tx: Transaction,
  id: string,
  change: { status: StoredAgent['status']; reason: string | null },
) {
  await tx.run('UPDATE agents SET status = ?, suspended_reason = ? WHERE id = ?', change.status, change.reason, id)
}

/** Agents with attempts that have not ended. */
export async function agentsWithOpenAttempts(reader: Reader): Promise<string[]> {
  const rows = await reader.all<{ agent_id: string }>('SELECT DISTINCT agent_id FROM open_attempts')
  return rows.map(({ agent_id }) => agent_id)
}

/** Machines of an account that were not revoked. */
export async function countAgentsOf(reader: Reader, ownerId: string): Promise<number> {
  const row = await reader.get<{ count: number }>(
    `SELECT count(*) AS count FROM agents WHERE owner_id = ? AND status <> 'revoked'`,
    ownerId,
  )
  return row!.count
}
