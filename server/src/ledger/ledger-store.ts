import type { LedgerBatch, Micros, Transfer, TransferKind } from '@orbyte/protocol'
import type { Reader, Row, Transaction } from '../db/database.ts'
import { ownedRows, readOwned } from '../db/owned-rows.ts'
import { rowWriter } from '../db/row-writer.ts'

export type TransferRow = Row & {
  seq: number
  kind: TransferKind
  debit_account: string
  credit_account: string
  amount_micros: number
  idempotency_key: string
  task_id: string | null
  created_at: string
  leaf_hash: string
}
export type BatchRow = Row & LedgerBatch

export const toTransfer = ({ amount_micros, leaf_hash: _, ...row }: TransferRow): Transfer => ({
  ...row,
  amount: amount_micros as Micros,
})

export async function balanceOf(reader: Reader, account: string): Promise<Micros> {
  const row = await reader.get<{ balance_micros: number }>('SELECT balance_micros FROM accounts WHERE id = ?', account)
  return (row?.balance_micros ?? 0) as Micros
}

export const writeBalances = rowWriter<{ account: string; micros: number }>({
  columns: 2,
  sql: (rows) =>
    `INSERT INTO accounts (id, balance_micros) VALUES ${rows}
     ON CONFLICT (id) DO UPDATE SET balance_micros = excluded.balance_micros`,
  push: (values, { account, micros }) => values.push(account, micros),
})

/** False: there is one with its key. */
export async function insertTransfer(tx: Transaction, row: TransferRow): Promise<boolean> {
  const added = await tx.run(
    `INSERT INTO transfers (seq, kind, debit_account, credit_account, amount_micros, idempotency_key, task_id, created_at, leaf_hash)
     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`,
    ...[row.seq, row.kind, row.debit_account, row.credit_account, row.amount_micros, row.idempotency_key, row.task_id],
    ...[row.created_at, row.leaf_hash],
  )
  return added === 1
}

export function transferByKey(reader: Reader, key: string, taskId: string | null): Promise<TransferRow | undefined> {
  if (taskId === null)
    return reader.get<TransferRow>('SELECT * FROM transfers WHERE task_id IS NULL AND idempotency_key = ?', key)
  return reader.get<TransferRow>('SELECT * FROM transfers WHERE task_id = ? AND idempotency_key = ?', taskId, key)
}

export function transfersOfTask(reader: Reader, taskId: string): Promise<TransferRow[]> {
  return reader.all<TransferRow>('SELECT * FROM transfers WHERE task_id = ? ORDER BY seq', taskId)
}

export function transfersBetween(reader: Reader, firstSeq: number, lastSeq: number): Promise<TransferRow[]> {
  return reader.all<TransferRow>('SELECT * FROM transfers WHERE seq BETWEEN ? AND ? ORDER BY seq', firstSeq, lastSeq)
}

/** Transfers from or to a user's accounts with `seq` below `before`, newest first. */
export async function transfersOfUser(reader: Reader, query: { userId: string; before: number; limit: number }) {
  const { userId, before, limit } = query
  const found = new Map<number, TransferRow>()
  for (const list of [ownedRows.transfersOfPayer, ownedRows.transfersOfPayee]) {
    const rows = await readOwned<TransferRow>(reader, {
      ...{ list, select: 't.*', owner: '?1', before: '?3', where: `t.${list.owner} IN (?1, ?2)` },
      ...{ params: [`available:${userId}`, `held:${userId}`, before], limit },
    })
    for (const row of rows) found.set(row.seq, row)
  }
  return [...found.values()].sort((a, b) => b.seq - a.seq).slice(0, limit)
}

export async function depositedSince(reader: Reader, userId: string, since: string): Promise<Micros> {
  const row = await reader.get<{ sum: number }>(
    `SELECT coalesce(sum(amount_micros), 0) AS sum FROM transfers
     WHERE credit_account = ? AND kind = 'deposit' AND created_at > ?`,
    ...[`available:${userId}`, since],
  )
  return row!.sum as Micros
}

/** Which account has a task's hold, and what is left of it: what its transfers have put there, less what they have taken out. */
export function holdOf(reader: Reader, taskId: string): Promise<{ account: string; rest_micros: number } | undefined> {
  return reader.get<{ account: string; rest_micros: number }>(
    `SELECT credit_account AS account, amount_micros -
       (SELECT coalesce(sum(amount_micros), 0) FROM transfers WHERE task_id = h.task_id AND debit_account = h.credit_account) AS rest_micros
     FROM transfers h WHERE task_id = ? AND kind = 'hold'`,
    taskId,
  )
}

export function lastBatch(reader: Reader): Promise<BatchRow | undefined> {
  return reader.get<BatchRow>('SELECT * FROM ledger_batches ORDER BY batch DESC LIMIT 1')
}

/** The batch that has a transfer, found by halving: each has one at least, so its number is no larger than the transfer's. */
export async function batchOfSeq(reader: Reader, seq: number): Promise<BatchRow | undefined> {
  const batchAt = (batch: number) => reader.get<BatchRow>('SELECT * FROM ledger_batches WHERE batch = ?', batch)
  let [from, to] = [1, seq]
  while (from < to) {
    const middle = Math.ceil((from + to) / 2)
    const batch = await batchAt(middle)
    if (batch && batch.first_seq <= seq) from = middle
    else to = middle - 1
  }
  const batch = await batchAt(from)
  return batch && batch.last_seq >= seq ? batch : undefined
}

export function batchesBefore(reader: Reader, before: number, limit: number): Promise<BatchRow[]> {
  return reader.all<BatchRow>('SELECT * FROM ledger_batches WHERE batch < ? ORDER BY batch DESC LIMIT ?', before, limit)
}

export async function insertBatch(tx: Transaction, batch: LedgerBatch) {
  await tx.run(
    `INSERT INTO ledger_batches (batch, first_seq, last_seq, merkle_root, previous_hash, hash, signature, committed_at)
     VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
    ...[
      batch.batch,
      batch.first_seq,
      batch.last_seq,
      batch.merkle_root,
      batch.previous_hash,
      batch.hash,
      batch.signature,
    ],
    batch.committed_at,
  )
}

/** The sum of all balances, which the database keeps by itself: see the triggers on `accounts`. */
export async function sumOfBalances(reader: Reader): Promise<number> {
  const row = await reader.get<{ micros: number }>('SELECT micros FROM ledger_sum')
  return row!.micros
}

export async function ledgerPublicKey(tx: Reader): Promise<string | null> {
  const row = await tx.get<{ value: string }>(`SELECT value FROM settings WHERE name = 'ledger_public_key'`)
  return row?.value ?? null
}

export async function keepLedgerPublicKey(tx: Transaction, publicKey: string) {
  await tx.run(`INSERT INTO settings (name, value) VALUES ('ledger_public_key', ?)`, publicKey)
}

/** At most 1,000 batches from number `first` on. */
export function batchesFrom(reader: Reader, first: number): Promise<BatchRow[]> {
  return reader.all<BatchRow>('SELECT * FROM ledger_batches WHERE batch >= ? ORDER BY batch LIMIT 1000', first)
}

/** Keys that several transfers have; at most ten. */
export async function keysUsedTwice(reader: Reader): Promise<string[]> {
  const rows = await reader.all<{ key: string }>(
    'SELECT idempotency_key AS key FROM transfers GROUP BY idempotency_key HAVING count(*) > 1 LIMIT 10',
  )
  return rows.map(({ key }) => key)
}

export function allAccounts(reader: Reader): Promise<{ id: string; balance_micros: number }[]> {
  return reader.all<{ id: string; balance_micros: number }>('SELECT id, balance_micros FROM accounts')
}
