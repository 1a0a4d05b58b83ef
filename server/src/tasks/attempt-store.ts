import type { Attempt, AttemptStatus, End, Micros } from '@orbyte/protocol'
import type { Reader, Row, Transaction } from '../db/database.ts'

/** An attempt as it is stored: with what fences it and whom it concerns. */
export type StoredAttempt = Omit<Attempt, 'gpu_name' | 'gpu_model' | 'gpu_kind'> & {
  agent_id: string
  provider_id: string
  fencing_token: string
  output_length: number
  log_lines: number
}

type AttemptRow = Row & {
  end_code: string | null
  end_message: string | null
  end_decided_by: string | null
}

const columns = `a.id, a.task_id, a.gpu_id, a.agent_id, a.provider_id, a.number, a.fencing_token, a.status, a.progress,
  a.price_micros_per_hour AS price_per_hour, a.run_ms, a.cost_micros AS cost, a.output_length, a.log_lines, a.end_code,
  a.end_message, a.end_decided_by, a.offered_at, a.accepted_at, a.ready_at, a.ended_at`
const withGpu = `${columns}, coalesce(g.name, a.gpu_id) AS gpu_name, coalesce(g.model, '') AS gpu_model,
  coalesce(g.kind, 'gpu') AS gpu_kind`

export function endOf(row: Row): End | null {
  if (row.end_code === null) return null
  return { code: row.end_code, message: row.end_message, decided_by: row.end_decided_by } as End
}

const toStored = (row: AttemptRow) => ({ ...row, end: endOf(row) }) as unknown as StoredAttempt
const toAttempt = (row: AttemptRow) => ({ ...row, end: endOf(row) }) as unknown as Attempt

export async function insertAttempt(tx: Transaction, attempt: StoredAttempt) {
  const a = attempt
  await tx.run(
    `INSERT INTO attempts (id, task_id, gpu_id, agent_id, provider_id, number, fencing_token, status, price_micros_per_hour, offered_at)
     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
    ...[
      a.id,
      a.task_id,
      a.gpu_id,
      a.agent_id,
      a.provider_id,
      a.number,
      a.fencing_token,
      a.status,
      a.price_per_hour,
      a.offered_at,
    ],
  )
}

/** False: the attempt is not in `from` any more. */
export async function moveAttempt(
  tx: Transaction,
  id: string,
  move: { from: readonly AttemptStatus[]; to: AttemptStatus; progress?: string; acceptedAt?: string; readyAt?: string },
): Promise<boolean> {
  const changed = await tx.run(
    `UPDATE attempts SET status = ?, progress = ?, accepted_at = coalesce(?, accepted_at), ready_at = coalesce(?, ready_at)
     WHERE id = ? AND ended_at IS NULL AND status IN (${move.from.map(() => '?').join(', ')})`,
    ...[move.to, move.progress ?? null, move.acceptedAt ?? null, move.readyAt ?? null, id, ...move.from],
  )
  return changed === 1
}

/** False: it has ended already. */
export async function endAttempt(
  tx: Transaction,
  id: string,
  ending: { status: AttemptStatus; end: End; runMs: number; cost: Micros; at: string },
): Promise<boolean> {
  const { status, end, runMs, cost, at } = ending
  const changed = await tx.run(
    `UPDATE attempts SET status = ?, progress = NULL, run_ms = ?, cost_micros = ?, end_code = ?, end_message = ?,
       end_decided_by = ?, ended_at = ? WHERE id = ? AND ended_at IS NULL`,
    ...[status, runMs, cost, end.code, end.message, end.decided_by, at, id],
  )
  await tx.run('DELETE FROM task_file_parts WHERE attempt_id = ?', id)
  return changed === 1
}

/** Ends offers of a task that nobody has accepted. */
export async function endOffers(tx: Transaction, taskId: string, { end, at }: { end: End; at: string }) {
  await tx.run(
    `UPDATE attempts SET status = 'cancelled', end_code = ?, end_message = ?, end_decided_by = ?, ended_at = ?
     WHERE task_id = ? AND ended_at IS NULL`,
    ...[end.code, end.message, end.decided_by, at, taskId],
  )
}

/** Keeps the run time that an agent has reported; what is charged if the renter cancels now. */
export async function tickAttempt(tx: Transaction, id: string, runMs: number) {
  await tx.run(`UPDATE attempts SET run_ms = max(run_ms, ?) WHERE id = ? AND status = 'running'`, runMs, id)
}

/** False: it has ended, or its output does not end at `offset`. */
export async function growOutput(
  tx: Transaction,
  id: string,
  by: { offset: number; length: number },
): Promise<boolean> {
  const changed = await tx.run(
    'UPDATE attempts SET output_length = output_length + ? WHERE id = ? AND ended_at IS NULL AND output_length = ?',
    ...[by.length, id, by.offset],
  )
  return changed === 1
}

/** False: it has ended, or the agent's message `seq` was counted already. */
export async function growLog(tx: Transaction, id: string, by: { seq: number; lines: number }): Promise<boolean> {
  const changed = await tx.run(
    'UPDATE attempts SET log_lines = log_lines + ?1, log_seq = ?2 WHERE id = ?3 AND ended_at IS NULL AND log_seq < ?2',
    ...[by.lines, by.seq, id],
  )
  return changed === 1
}

export async function isOpen(reader: Reader, id: string): Promise<boolean> {
  return (await reader.get('SELECT 1 AS open FROM attempts WHERE id = ? AND ended_at IS NULL', id)) !== undefined
}

export async function attemptById(reader: Reader, id: string): Promise<StoredAttempt | undefined> {
  const row = await reader.get<AttemptRow>(`SELECT ${columns} FROM attempts a WHERE a.id = ?`, id)
  return row && toStored(row)
}

/** Attempts that have not ended, oldest first. */
export async function openAttempts(reader: Reader): Promise<StoredAttempt[]> {
  return (await reader.all<AttemptRow>(`SELECT ${columns} FROM attempts a WHERE a.ended_at IS NULL ORDER BY a.id`)).map(
    toStored,
  )
}

export async function attemptsOfTask(reader: Reader, taskId: string): Promise<Attempt[]> {
  const rows = await reader.all<AttemptRow>(
    `SELECT ${withGpu} FROM attempts a LEFT JOIN gpus g ON g.id = a.gpu_id WHERE a.task_id = ? ORDER BY a.number`,
    taskId,
  )
  return rows.map(toAttempt)
}

/** Newest first, ids below `before`. */
export async function attemptsOfGpu(
  reader: Reader,
  query: { gpuId: string; before: string; limit: number },
): Promise<Attempt[]> {
  const rows = await reader.all<AttemptRow>(
    `SELECT ${withGpu} FROM attempts a LEFT JOIN gpus g ON g.id = a.gpu_id
     WHERE a.gpu_id = ? AND a.id < ? ORDER BY a.id DESC LIMIT ?`,
    ...[query.gpuId, query.before, query.limit],
  )
  return rows.map(toAttempt)
}

/** How often the task has been offered, and the GPUs that have failed it, so that it is tried elsewhere. */
export async function historyOf(reader: Reader, taskId: string): Promise<{ offers: number; failedGpus: string[] }> {
  const rows = await reader.all<{ gpu_id: string; number: number; failed: number }>(
    `SELECT gpu_id, number, status IN ('failed', 'refused') OR (status = 'lost' AND accepted_at IS NOT NULL) AS failed FROM attempts WHERE task_id = ?`,
    taskId,
  )
  const failedGpus = rows.filter(({ failed }) => failed === 1).map(({ gpu_id }) => gpu_id)
  return { offers: Math.max(0, ...rows.map(({ number }) => number)), failedGpus }
}
