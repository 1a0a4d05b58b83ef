import {
  type Attempt,
  type AttemptStatus,
  attemptStatusesBefore,
  type End,
  type Micros,
  wholeMilli,
} from '@orbyte/protocol'
import { flag, placeOf, type Reader, type Row, statementBy, type Transaction, words } from '../db/database.ts'
import { ownedRows, readOwned } from '../db/owned-rows.ts'
import { gpusOfAttempts, insertGpus, type StoredAttemptGpu } from './attempt-gpu-store.ts'
import { NotKeptError, type Reported } from './reported.ts'

/** An attempt as it is stored: with what fences it and whom it concerns. */
export type StoredAttempt = Omit<Attempt, 'gpu_name' | 'gpu_model' | 'gpu_kind' | 'gpus'> & {
  agent_id: string
  provider_id: string
  fencing_token: string
  output_length: number
  output_bytes: number
  log_lines: number
}

type AttemptRow = Row & {
  trial: number
  slow: number
  end_code: string | null
  end_message: string | null
  end_decided_by: string | null
}

const columns = `t.id, t.task_id, t.gpu_id, t.agent_id, t.provider_id, t.number, t.fencing_token, t.status, t.progress,
  t.price_micros_per_hour AS price_per_hour, t.run_ms, t.cost_micros AS cost, t.output_length, t.output_bytes, t.log_lines, t.end_code,
  t.end_message, t.end_decided_by, t.trial, t.expected_run_ms, t.slow, t.offered_at, t.accepted_at, t.ready_at, t.ended_at`
const withGpu = `${columns}, coalesce(g.name, t.gpu_id) AS gpu_name, coalesce(g.model, '') AS gpu_model,
  coalesce(g.kind, 'gpu') AS gpu_kind`

export function endOf(row: Row): End | null {
  if (row.end_code === null) return null
  return { code: row.end_code, message: row.end_message, decided_by: row.end_decided_by } as End
}

const fieldsOf = (row: AttemptRow): unknown => ({
  ...row,
  end: endOf(row),
  trial: row.trial === 1,
  slow: row.slow === 1,
})
const toStored = (row: AttemptRow) => fieldsOf(row) as StoredAttempt

async function toAttempts(reader: Reader, rows: readonly AttemptRow[]): Promise<Attempt[]> {
  const attempts = rows.map((row) => fieldsOf(row) as Omit<Attempt, 'gpus'>)
  const ids = attempts.map(({ id }) => id)
  const gpus = ids.length === 0 ? null : await gpusOfAttempts(reader, ids)
  return attempts.map((attempt) => {
    const { gpu_id, gpu_name, price_per_hour } = attempt
    const whole = { gpu_id, gpu_name, milli: wholeMilli, vram_gb: null, price_per_hour }
    return { ...attempt, gpus: gpus?.get(attempt.id) ?? [whole] }
  })
}

type Inserted = { readonly attempt: StoredAttempt; readonly gpus: readonly StoredAttemptGpu[] }

const identity = 'id, gpu_id, agent_id, provider_id, number, fencing_token, price_micros_per_hour, trial, offered_at'
const identityOf = (a: StoredAttempt) =>
  [
    a.id,
    a.gpu_id,
    a.agent_id,
    a.provider_id,
    a.number,
    a.fencing_token,
    a.price_per_hour,
    flag(a.trial),
    a.offered_at,
  ] as const

/** Stores one that its agent has accepted and that `startTask` has let run its task. `gpus`: what it has of which; none: all of the one that it names. */
export async function insertAttempt(
  tx: Transaction,
  { attempt, gpus }: Inserted,
  { status, acceptedAt, readyAt }: { status: 'accepted' | 'running'; acceptedAt: string; readyAt: string | null },
) {
  await tx.run(
    `INSERT INTO attempts (${identity}, status, accepted_at, ready_at, task_id) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
    ...[...identityOf(attempt), status, acceptedAt, readyAt, attempt.task_id],
  )
  await insertGpus(tx, attempt.id, gpus)
}

/** Stores one that has ended before it was accepted. False, and nothing changed: its task does not wait any more. */
export async function insertDeclined(
  tx: Transaction,
  { attempt, gpus }: Inserted,
  { status, end, endedAt }: { status: 'refused' | 'lost'; end: End; endedAt: string },
): Promise<boolean> {
  const changed = await tx.run(
    `INSERT INTO attempts (${identity}, status, end_code, end_message, end_decided_by, ended_at, task_id)
     SELECT ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, id FROM tasks WHERE id = ? AND status = 'pending'`,
    ...[...identityOf(attempt), status, end.code, end.message, end.decided_by, endedAt, attempt.task_id],
  )
  if (changed !== 1) return false
  await insertGpus(tx, attempt.id, gpus)
  return true
}

const moveAttemptTo = statementBy(
  (to: AttemptStatus) =>
    `UPDATE attempts SET status = '${to}', progress = NULL, ready_at = coalesce(?, ready_at)
     WHERE id = ? AND status IN (${words(attemptStatusesBefore(to))})`,
)

/** False: it is not in a status any more from which it gets there. */
export async function moveAttempt(
  tx: Transaction,
  id: string,
  move: { to: 'preparing' | 'running'; readyAt?: string },
): Promise<boolean> {
  return (await tx.run(moveAttemptTo(move.to), move.readyAt ?? null, id)) === 1
}

/** How far it is. False: it does not prepare any more. */
export async function writeProgress(tx: Transaction, id: string, progress: string): Promise<boolean> {
  return (await tx.run(`UPDATE attempts SET progress = ? WHERE id = ? AND status = 'preparing'`, progress, id)) === 1
}

const endAttemptAs = statementBy(
  (status: AttemptStatus) =>
    `UPDATE attempts SET status = '${status}', progress = NULL, run_ms = ?, cost_micros = ?, end_code = ?, end_message = ?,
       end_decided_by = ?, ended_at = ? WHERE id = ? AND status IN (${words(attemptStatusesBefore(status))})`,
)
/** Preparing may be reported and not kept: it says no more than that it was accepted. */
const asReported = ` AND replace(status, 'preparing', 'accepted') = ? AND output_length = ? AND log_lines = ?`
const endReportedAs = statementBy((status: AttemptStatus) => endAttemptAs(status) + asReported)

type AttemptEnding = { status: AttemptStatus; end: End; runMs: number; cost: Micros; at: string; reported?: Reported }

/**
 * False: it has ended already, cannot end so, or was never stored. Throws `NotKeptError` where it is not as far as its agent has
 * `reported`: something of that failed, and is said again.
 */
export async function endAttempt(
  tx: Transaction,
  attempt: Pick<StoredAttempt, 'id' | 'task_id'>,
  { status, end, runMs, cost, at, reported }: AttemptEnding,
): Promise<boolean> {
  const values = [runMs, cost, end.code, end.message, end.decided_by, at, attempt.id]
  const changed = reported
    ? await tx.run(endReportedAs(status), ...values, ...valuesOf(reported))
    : await tx.run(endAttemptAs(status), ...values)
  if (changed === 1) await tx.run('DELETE FROM task_file_parts WHERE attempt_id = ?', attempt.id)
  else if (reported && !(await isKept(tx, attempt, reported)))
    throw new NotKeptError(`not all that was reported of ${attempt.id} is kept`)
  return changed === 1
}

const valuesOf = ({ status, outputLength, logLines }: Reported) =>
  [status === 'preparing' ? 'accepted' : status, outputLength, logLines] as const

/** Where it has ended, or its task before it was stored, there is nothing left to keep. */
async function isKept(reader: Reader, { id, task_id }: Pick<StoredAttempt, 'id' | 'task_id'>, reported: Reported) {
  const kept = `SELECT ended_at IS NOT NULL OR (TRUE${asReported}) AS kept FROM attempts WHERE id = ?`
  const stored = await reader.get<{ kept: number }>(kept, ...valuesOf(reported), id)
  if (stored) return stored.kept === 1
  return (await reader.get(`SELECT 1 AS waits FROM tasks WHERE id = ? AND status = 'pending'`, task_id)) === undefined
}

/** Keeps the run time that an agent has reported; what is charged if the renter cancels now. */
export async function tickAttempt(tx: Transaction, id: string, runMs: number) {
  await tx.run(`UPDATE attempts SET run_ms = max(run_ms, ?) WHERE id = ? AND status = 'running'`, runMs, id)
}

/** What its run time was measured against. */
export async function writeSpeed(tx: Transaction, id: string, speed: { expectedRunMs: number; slow: boolean }) {
  await tx.run(
    'UPDATE attempts SET expected_run_ms = ?, slow = ? WHERE id = ?',
    ...[speed.expectedRunMs, flag(speed.slow), id],
  )
}

/** False: it does not run (its being ready may have got lost with a commit), or its output does not end at `offset`. */
export async function growOutput(
  tx: Transaction,
  id: string,
  by: { offset: number; length: number; bytes: number },
): Promise<boolean> {
  const changed = await tx.run(
    `UPDATE attempts SET output_length = output_length + ?, output_bytes = output_bytes + ?
     WHERE id = ? AND status = 'running' AND output_length = ?`,
    ...[by.length, by.bytes, id, by.offset],
  )
  return changed === 1
}

/** False: it has ended, or its log does not have `offset` lines. */
export async function growLog(tx: Transaction, id: string, by: { offset: number; lines: number }): Promise<boolean> {
  const changed = await tx.run(
    'UPDATE attempts SET log_lines = log_lines + ? WHERE id = ? AND ended_at IS NULL AND log_lines = ?',
    ...[by.lines, id, by.offset],
  )
  return changed === 1
}

export async function isOpen(reader: Reader, id: string): Promise<boolean> {
  return (await reader.get('SELECT 1 AS open FROM attempts WHERE id = ? AND ended_at IS NULL', id)) !== undefined
}

export async function attemptById(reader: Reader, id: string): Promise<StoredAttempt | undefined> {
  const row = await reader.get<AttemptRow>(`SELECT ${columns} FROM attempts t WHERE t.id = ?`, id)
  return row && toStored(row)
}

/** Attempts that have not ended, oldest first. */
export async function openAttempts(reader: Reader): Promise<StoredAttempt[]> {
  return (await reader.all<AttemptRow>(`SELECT ${columns} FROM attempts t WHERE t.ended_at IS NULL ORDER BY t.id`)).map(
    toStored,
  )
}

export async function attemptsOfTask(reader: Reader, taskId: string): Promise<Attempt[]> {
  const rows = await reader.all<AttemptRow>(
    `SELECT ${withGpu} FROM attempts t LEFT JOIN gpus g ON g.id = t.gpu_id WHERE t.task_id = ? ORDER BY t.number`,
    taskId,
  )
  return toAttempts(reader, rows)
}

/** Newest first, from the one before the attempt `before` on. */
export async function attemptsOfGpu(
  reader: Reader,
  query: { gpuId: string; before: string; limit: number },
): Promise<Attempt[]> {
  const before = placeOf('attempts', '?2')
  const select = `${withGpu}, t.rowid AS row`
  const first = await readOwned<AttemptRow & { row: number }>(reader, {
    list: ownedRows.attemptsOfGpu,
    select,
    joins: 'LEFT JOIN gpus g ON g.id = t.gpu_id',
    owner: '?1',
    before,
    where: 't.gpu_id = ?1',
    params: [query.gpuId, query.before],
    limit: query.limit,
  })
  const among = await reader.all<AttemptRow & { row: number }>(
    `SELECT ${select} FROM attempt_gpus s JOIN attempts t ON t.id = s.attempt_id LEFT JOIN gpus g ON g.id = t.gpu_id
     WHERE s.gpu_id = ?1 AND s.place > 0 AND t.rowid < ${before} ORDER BY t.rowid DESC LIMIT ?3`,
    ...[query.gpuId, query.before, query.limit],
  )
  const newest = [...first, ...among].sort((a, b) => b.row - a.row).slice(0, query.limit)
  return toAttempts(reader, newest)
}

/** How often a GPU has failed or refused a task, and when it did so last. */
export type PastFailure = { gpuId: string; times: number; lastAt: string }
/**
 * What has been tried for a task: the number of its last offer, which GPUs it is not to be offered to at once, and when the last
 * attempt that had begun ended. From then on it waits anew.
 */
export type TaskHistory = { offers: number; failures: readonly PastFailure[]; triedUntil: string | null }
export const untried: TaskHistory = { offers: 0, failures: [], triedUntil: null }

/** By task, for the tasks that have not ended. */
export async function historyOfOpenTasks(reader: Reader): Promise<Map<string, TaskHistory>> {
  const failure = `a.status IN ('failed', 'refused') OR (a.status = 'lost' AND a.accepted_at IS NOT NULL)`
  type Tries = { task_id: string; gpu_id: string; number: number; times: number; last_at: string; until: string }
  const rows = await reader.all<Tries>(
    `SELECT a.task_id, coalesce(s.gpu_id, a.gpu_id) AS gpu_id, max(a.number) AS number, sum(${failure}) AS times,
       max(CASE WHEN ${failure} THEN a.ended_at ELSE '' END) AS last_at,
       max(CASE WHEN a.accepted_at IS NOT NULL AND NOT a.trial THEN coalesce(a.ended_at, '') ELSE '' END) AS until
     FROM attempts a JOIN tasks t ON t.id = a.task_id LEFT JOIN attempt_gpus s ON s.attempt_id = a.id
     WHERE t.status IN ('pending', 'running') GROUP BY a.task_id, coalesce(s.gpu_id, a.gpu_id)`,
  )
  const histories = new Map<string, TaskHistory>()
  for (const { task_id, gpu_id: gpuId, number, times, last_at: lastAt, until } of rows) {
    const { offers, failures, triedUntil } = histories.get(task_id) ?? untried
    const failed = times > 0 ? [{ gpuId, times, lastAt }] : []
    histories.set(task_id, {
      offers: Math.max(offers, number),
      failures: [...failures, ...failed],
      triedUntil: until > (triedUntil ?? '') ? until : triedUntil,
    })
  }
  return histories
}
