import { type Attempt, type AttemptGpu, type AttemptStatus, attemptStatusesBefore } from '@orbyte/protocol'
import { type End, type Micros, wholeMilli } from '@orbyte/protocol'
import { flag, placeOf, type Reader, type Row, shortOf, statementBy, type Transaction, words } from '../db/database.ts'

/** An attempt as it is stored: with what fences it and whom it concerns. */
export type StoredAttempt = Omit<Attempt, 'gpu_name' | 'gpu_model' | 'gpu_kind' | 'gpus'> & {
  agent_id: string
  provider_id: string
  fencing_token: string
  output_length: number
  output_bytes: number
  log_lines: number
}

/** What it has of a GPU: stored only where that is not one whole GPU, the one that the attempt names. */
export type StoredAttemptGpu = Omit<AttemptGpu, 'gpu_name'>

type AttemptRow = Row & {
  trial: number
  slow: number
  end_code: string | null
  end_message: string | null
  end_decided_by: string | null
}

const columns = `a.id, a.task_id, a.gpu_id, a.agent_id, a.provider_id, a.number, a.fencing_token, a.status, a.progress,
  a.price_micros_per_hour AS price_per_hour, a.run_ms, a.cost_micros AS cost, a.output_length, a.output_bytes, a.log_lines, a.end_code,
  a.end_message, a.end_decided_by, a.trial, a.expected_run_ms, a.slow, a.offered_at, a.accepted_at, a.ready_at, a.ended_at`
/** A row for each GPU that is stored; one, without any, for an attempt that has one whole GPU. */
const withGpus = `SELECT ${columns}, coalesce(g.name, a.gpu_id) AS gpu_name, coalesce(g.model, '') AS gpu_model,
    coalesce(g.kind, 'gpu') AS gpu_kind, s.gpu_id AS part_gpu_id, coalesce(h.name, s.gpu_id) AS part_gpu_name, s.milli AS part_milli,
    s.vram_gb AS part_vram_gb, s.price_micros_per_hour AS part_price_per_hour
  FROM attempts a LEFT JOIN gpus g ON g.id = a.gpu_id
  LEFT JOIN attempt_gpus s ON s.attempt_id = a.id LEFT JOIN gpus h ON h.id = s.gpu_id`

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

type GpuPartRow = AttemptRow & {
  id: string
  gpu_id: string
  gpu_name: string
  price_per_hour: Micros
  part_gpu_id: string | null
  part_gpu_name: string
  part_milli: number
  part_vram_gb: number | null
  part_price_per_hour: Micros
}

function toAttempts(rows: readonly GpuPartRow[]): Attempt[] {
  const attempts = new Map<string, Attempt>()
  for (const row of rows) {
    const known = attempts.get(row.id)
    if (known) known.gpus.push(gpuOf(row))
    else attempts.set(row.id, { ...(fieldsOf(row) as Attempt), gpus: [gpuOf(row)] })
  }
  return [...attempts.values()]
}

function gpuOf(row: GpuPartRow): AttemptGpu {
  const { gpu_id, gpu_name, price_per_hour } = row
  if (row.part_gpu_id === null) return { gpu_id, gpu_name, milli: wholeMilli, vram_gb: null, price_per_hour }
  return {
    gpu_id: row.part_gpu_id,
    gpu_name: row.part_gpu_name,
    milli: row.part_milli,
    vram_gb: row.part_vram_gb,
    price_per_hour: row.part_price_per_hour,
  }
}

/** `gpus`: what it has of which; none: all of the one that it names. False, and nothing changed: its task does not wait any more. */
export async function insertAttempt(
  tx: Transaction,
  attempt: StoredAttempt,
  gpus: readonly StoredAttemptGpu[],
): Promise<boolean> {
  const a = attempt
  const changed = await tx.run(
    `INSERT INTO attempts (id, task_id, gpu_id, agent_id, provider_id, number, fencing_token, status, price_micros_per_hour, trial,
       offered_at)
     SELECT ?, id, ?, ?, ?, ?, ?, 'offered', ?, ?, ? FROM tasks WHERE id = ? AND status = 'pending'`,
    ...[
      a.id,
      a.gpu_id,
      a.agent_id,
      a.provider_id,
      a.number,
      a.fencing_token,
      a.price_per_hour,
      flag(a.trial),
      a.offered_at,
      a.task_id,
    ],
  )
  if (changed !== 1) return false
  for (const [place, { gpu_id, milli, vram_gb, price_per_hour }] of gpus.entries())
    await tx.run(
      `INSERT INTO attempt_gpus (attempt_id, place, gpu_id, milli, vram_gb, price_micros_per_hour) VALUES (?, ?, ?, ?, ?, ?)`,
      ...[a.id, place, gpu_id, milli, vram_gb, price_per_hour],
    )
  return true
}

const moveAttemptTo = statementBy(
  (to: AttemptStatus) =>
    `UPDATE attempts SET status = '${to}', progress = NULL, accepted_at = coalesce(?, accepted_at), ready_at = coalesce(?, ready_at)
     WHERE id = ? AND status IN (${words(attemptStatusesBefore(to))})`,
)

/** False: it is not in a status any more from which it gets there. */
export async function moveAttempt(
  tx: Transaction,
  id: string,
  move: { to: 'accepted' | 'preparing' | 'running'; acceptedAt?: string; readyAt?: string },
): Promise<boolean> {
  const changed = await tx.run(moveAttemptTo(move.to), move.acceptedAt ?? null, move.readyAt ?? null, id)
  return changed === 1
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

/** False: it has ended already, or cannot end so. */
export async function endAttempt(
  tx: Transaction,
  id: string,
  ending: { status: AttemptStatus; end: End; runMs: number; cost: Micros; at: string },
): Promise<boolean> {
  const { status, end, runMs, cost, at } = ending
  const changed = await tx.run(endAttemptAs(status), ...[runMs, cost, end.code, end.message, end.decided_by, at, id])
  if (changed === 1) await tx.run('DELETE FROM task_file_parts WHERE attempt_id = ?', id)
  return changed === 1
}

/** Ends the attempts of a task that nobody has accepted. */
export async function endOffers(tx: Transaction, taskId: string, { end, at }: { end: End; at: string }) {
  await tx.run(
    `UPDATE attempts SET status = 'cancelled', end_code = ?, end_message = ?, end_decided_by = ?, ended_at = ?
     WHERE task_id = ? AND status = 'offered'`,
    ...[end.code, end.message, end.decided_by, at, taskId],
  )
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

type StoredProgress = Pick<StoredAttempt, 'status' | 'output_length' | 'log_lines'>
/** How far the attempt is. Undefined: it has ended, or was never stored. */
export function progressOf(reader: Reader, id: string): Promise<StoredProgress | undefined> {
  return reader.get<Row & StoredProgress>(
    'SELECT status, output_length, log_lines FROM attempts WHERE id = ? AND ended_at IS NULL',
    id,
  )
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

/** What those have that have not ended, where it is not one whole GPU. */
export async function gpusOfOpenAttempts(reader: Reader): Promise<Map<string, StoredAttemptGpu[]>> {
  const rows = await reader.all<StoredAttemptGpu & { attempt_id: string }>(
    `SELECT s.attempt_id, s.gpu_id, s.milli, s.vram_gb, s.price_micros_per_hour AS price_per_hour
     FROM attempts a JOIN attempt_gpus s ON s.attempt_id = a.id WHERE a.ended_at IS NULL ORDER BY s.attempt_id, s.place`,
  )
  const gpus = new Map<string, StoredAttemptGpu[]>()
  for (const { attempt_id, ...gpu } of rows) gpus.set(attempt_id, [...(gpus.get(attempt_id) ?? []), gpu])
  return gpus
}

export async function attemptsOfTask(reader: Reader, taskId: string): Promise<Attempt[]> {
  return toAttempts(await reader.all<GpuPartRow>(`${withGpus} WHERE a.task_id = ? ORDER BY a.number, s.place`, taskId))
}

/** Newest first, from the one before the attempt `before` on. */
export async function attemptsOfGpu(
  reader: Reader,
  query: { gpuId: string; before: string; limit: number },
): Promise<Attempt[]> {
  const isBefore = (rowid: string) => `${rowid} < ${placeOf('attempts', '?2')} ORDER BY ${rowid} DESC LIMIT ?3`
  const rows = await reader.all<GpuPartRow>(
    `${withGpus} WHERE a.rowid IN (
       SELECT place FROM (SELECT rowid AS place FROM attempts
         WHERE ${shortOf('gpu_id')} = ${shortOf('?1')} AND gpu_id = ?1 AND ${isBefore('rowid')})
       UNION SELECT place FROM (SELECT b.rowid AS place FROM attempt_gpus o JOIN attempts b ON b.id = o.attempt_id
         WHERE o.gpu_id = ?1 AND ${isBefore('b.rowid')}))
     ORDER BY a.rowid DESC, s.place`,
    ...[query.gpuId, query.before, query.limit],
  )
  return toAttempts(rows).slice(0, query.limit)
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
