import { type Attempt, type AttemptStatus, attemptStatusesBefore, type End, wholeMilli } from '@orbyte/protocol'
import { flag, type Reader, type Row, statementBy, type Transaction, words } from '../db/database.ts'
import { ownedRows, readOwned } from '../db/owned-rows.ts'
import { gpusOfAttempts, insertGpus, type StoredAttemptGpu } from './attempt-gpu-store.ts'

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

const columns = `s.id, s.task_id, s.gpu_id, s.agent_id, s.provider_id, s.number, s.fencing_token, s.status, s.progress,
  s.price_micros_per_hour AS price_per_hour, s.run_ms, s.cost_micros AS cost, s.output_length, s.output_bytes, s.log_lines, s.end_code,
  s.end_message, s.end_decided_by, s.trial, s.expected_run_ms, s.slow, s.offered_at, s.accepted_at, s.ready_at, s.ended_at`
const withGpu = `${columns}, coalesce(g.name, s.gpu_id) AS gpu_name, coalesce(g.model, '') AS gpu_model,
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

const identity =
  'id, task_id, gpu_id, agent_id, provider_id, number, fencing_token, price_micros_per_hour, trial, offered_at'
const identityOf = (a: StoredAttempt) =>
  [
    a.id,
    a.task_id,
    a.gpu_id,
    a.agent_id,
    a.provider_id,
    a.number,
    a.fencing_token,
    a.price_per_hour,
    flag(a.trial),
    a.offered_at,
  ] as const

/**
 * Stores one that its agent has accepted: its task runs from now on, with it. `gpus`: what it has of which; none: all of the one
 * that it names. False, and nothing is stored: its task does not wait any more.
 */
export async function insertAttempt(
  tx: Transaction,
  { attempt, gpus }: Inserted,
  { status, acceptedAt, readyAt }: { status: 'accepted' | 'running'; acceptedAt: string; readyAt: string | null },
): Promise<boolean> {
  if (!(await isWaiting(tx, attempt.task_id))) return false
  await tx.run(
    `INSERT INTO attempts (${identity}, status, accepted_at, ready_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
    ...[...identityOf(attempt), status, acceptedAt, readyAt],
  )
  await insertGpus(tx, attempt, gpus)
  return true
}

/** Stores one that has ended before it was accepted. False, and nothing is stored: its task does not wait any more. */
export async function insertDeclined(
  tx: Transaction,
  { attempt, gpus }: Inserted,
  { status, end, endedAt }: { status: 'refused' | 'lost'; end: End; endedAt: string },
): Promise<boolean> {
  if (!(await isWaiting(tx, attempt.task_id))) return false
  await tx.run(
    `INSERT INTO attempts (${identity}, status, end_code, end_message, end_decided_by, ended_at)
     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
    ...[...identityOf(attempt), status, end.code, end.message, end.decided_by, endedAt],
  )
  await insertGpus(tx, attempt, gpus)
  return true
}

/** Whether a task waits. */
export async function isWaiting(reader: Reader, taskId: string): Promise<boolean> {
  const row = await reader.get(`SELECT 1 AS waits FROM task_states WHERE id = ? AND status = 'pending'`, taskId)
  return row !== undefined
}

/** Which attempt: it is found by its task, of which at most one is open. */
export type AttemptRef = Pick<StoredAttempt, 'id' | 'task_id'>
/** SQL: of `attempts`, the one with this id and this task's, if it has not ended. */
export const isThisAndOpen = `id = ? AND task_id = ? AND ended_at IS NULL
  AND EXISTS (SELECT 1 FROM tasks WHERE tasks.id = attempts.task_id AND tasks.status = 'open')`

const moveAttemptTo = statementBy(
  (to: AttemptStatus) =>
    `UPDATE attempts SET status = '${to}', progress = NULL, ready_at = coalesce(?, ready_at)
     WHERE ${isThisAndOpen} AND status IN (${words(attemptStatusesBefore(to))})`,
)

/** False: it is not in a status any more from which it gets there. */
export async function moveAttempt(
  tx: Transaction,
  { id, task_id }: AttemptRef,
  move: { to: 'preparing' | 'running'; readyAt?: string },
): Promise<boolean> {
  return (await tx.run(moveAttemptTo(move.to), move.readyAt ?? null, id, task_id)) === 1
}

/** How far it is. False: it does not prepare any more. */
export async function writeProgress(tx: Transaction, { id, task_id }: AttemptRef, progress: string): Promise<boolean> {
  const changed = await tx.run(
    `UPDATE attempts SET progress = ? WHERE ${isThisAndOpen} AND status = 'preparing'`,
    ...[progress, id, task_id],
  )
  return changed === 1
}

/** Keeps the run time that an agent has reported; what is charged if the renter cancels now. */
export async function tickAttempt(tx: Transaction, { id, task_id }: AttemptRef, runMs: number) {
  await tx.run(
    `UPDATE attempts SET run_ms = max(run_ms, ?) WHERE ${isThisAndOpen} AND status = 'running'`,
    ...[runMs, id, task_id],
  )
}

/** What its run time was measured against. */
export async function writeSpeed(
  tx: Transaction,
  { id, task_id }: AttemptRef,
  speed: { expectedRunMs: number; slow: boolean },
) {
  await tx.run(
    'UPDATE attempts SET expected_run_ms = ?, slow = ? WHERE id = ? AND task_id = ?',
    ...[speed.expectedRunMs, flag(speed.slow), id, task_id],
  )
}

/** False: it does not run (its being ready may have got lost with a commit), or its output does not end at `offset`. */
export async function growOutput(
  tx: Transaction,
  { id, task_id }: AttemptRef,
  by: { offset: number; length: number; bytes: number },
): Promise<boolean> {
  const changed = await tx.run(
    `UPDATE attempts SET output_length = output_length + ?, output_bytes = output_bytes + ?
     WHERE ${isThisAndOpen} AND status = 'running' AND output_length = ?`,
    ...[by.length, by.bytes, id, task_id, by.offset],
  )
  return changed === 1
}

/** False: it has ended, or its log does not have `offset` lines. */
export async function growLog(
  tx: Transaction,
  { id, task_id }: AttemptRef,
  by: { offset: number; lines: number },
): Promise<boolean> {
  const changed = await tx.run(
    `UPDATE attempts SET log_lines = log_lines + ? WHERE ${isThisAndOpen} AND log_lines = ?`,
    ...[by.lines, id, task_id, by.offset],
  )
  return changed === 1
}

export async function isOpen(reader: Reader, { id, task_id }: AttemptRef): Promise<boolean> {
  return (await reader.get(`SELECT 1 AS open FROM attempts WHERE ${isThisAndOpen}`, id, task_id)) !== undefined
}

/** The attempt that the task runs with; undefined: it waits, or has ended. */
export async function openAttemptOf(reader: Reader, taskId: string): Promise<StoredAttempt | undefined> {
  const row = await reader.get<AttemptRow>(
    `SELECT ${columns} FROM attempt_states s WHERE s.task_id = ? AND s.ended_at IS NULL`,
    taskId,
  )
  return row && toStored(row)
}

/** Attempts that have not ended, oldest first. */
export async function openAttempts(reader: Reader): Promise<StoredAttempt[]> {
  const rows = await reader.all<AttemptRow>(
    `SELECT ${columns} FROM open_attempts o JOIN attempt_states s ON s.row = o.row ORDER BY o.id`,
  )
  return rows.map(toStored)
}

export async function attemptsOfTask(reader: Reader, taskId: string): Promise<Attempt[]> {
  const rows = await reader.all<AttemptRow>(
    `SELECT ${withGpu} FROM attempt_states s LEFT JOIN gpus g ON g.id = s.gpu_id WHERE s.task_id = ? ORDER BY s.number`,
    taskId,
  )
  return toAttempts(reader, rows)
}

type AttemptInList = Attempt & { row: number }

/** Newest first, rows below `before`. */
export async function attemptsOfGpu(
  reader: Reader,
  query: { gpuId: string; before: number; limit: number },
): Promise<AttemptInList[]> {
  const select = `${withGpu}, s.row`
  const joins = 'LEFT JOIN gpus g ON g.id = s.gpu_id'
  const first = await readOwned<AttemptRow & { row: number }>(reader, {
    list: ownedRows.attemptsOfGpu,
    select,
    joins: `JOIN attempt_states s ON s.row = t.row ${joins}`,
    owner: '?1',
    before: '?2',
    where: 't.gpu_id = ?1',
    params: [query.gpuId, query.before],
    limit: query.limit,
  })
  const among = await reader.all<AttemptRow & { row: number }>(
    `SELECT ${select} FROM attempt_gpus m JOIN attempt_states s ON s.task_id = m.task_id AND s.id = m.attempt_id ${joins}
     WHERE m.gpu_id = ?1 AND m.place > 0 AND s.row < ?2 ORDER BY s.row DESC LIMIT ?3`,
    ...[query.gpuId, query.before, query.limit],
  )
  const newest = [...first, ...among].sort((a, b) => b.row - a.row).slice(0, query.limit)
  return (await toAttempts(reader, newest)) as AttemptInList[]
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
     FROM tasks t INDEXED BY tasks_open CROSS JOIN attempts a ON a.task_id = t.id LEFT JOIN attempt_gpus s ON s.attempt_id = a.id
     WHERE t.status = 'open' GROUP BY a.task_id, coalesce(s.gpu_id, a.gpu_id)`,
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
