import { isoFromMs } from '../context.ts'
import { flag, type Row, type Transaction } from '../db/database.ts'

/**
 * What is known of how a GPU has done. It changes with each task, so it is stored apart from what the GPU is, which is ten times as
 * large: docs/decisions/0019-how-commits-are-written.md.
 */
export type GpuStanding = {
  readonly tasksCompleted: number
  readonly tasksFailed: number
  readonly failuresInARow: number
  /** Milliseconds since 1970; 0: it is not cooling down. */
  readonly coolDownUntilMs: number
  readonly tasksSlow: number
  readonly auditsPassed: number
  readonly auditsFailed: number
  /** Since it was last found wrong, or differed from others. */
  readonly auditsInARow: number
  /** Milliseconds since 1970; 0: it was never checked. */
  readonly auditedAtMs: number
}

export type StandingRow = Row & {
  tasks_completed: number
  tasks_failed: number
  failures_in_a_row: number
  cool_down_until: string | null
  tasks_slow: number
  audits_passed: number
  audits_failed: number
  audits_in_a_row: number
  audited_at: string | null
}

/** Of a new GPU. */
export async function insertStanding(tx: Transaction, gpuId: string) {
  await tx.run('INSERT INTO gpu_standings (gpu_id) VALUES (?)', gpuId)
}

export async function countCompletedAttempt(tx: Transaction, gpuId: string) {
  await tx.run(
    'UPDATE gpu_standings SET tasks_completed = tasks_completed + 1, failures_in_a_row = 0, cool_down_until = NULL WHERE gpu_id = ?',
    gpuId,
  )
}

/**
 * `isTask`: it had taken a task. What fails while it cools down failed together with what was before it, on another share, and is
 * no failure more in a row. Null: there never was such a GPU.
 */
export async function countFailure(
  tx: Transaction,
  gpuId: string,
  { isTask, nowMs }: { isTask: boolean; nowMs: number },
): Promise<Pick<GpuStanding, 'tasksFailed' | 'failuresInARow'> | null> {
  const row = await tx.get<Pick<StandingRow, 'tasks_failed' | 'failures_in_a_row'>>(
    `UPDATE gpu_standings SET tasks_failed = tasks_failed + ?,
       failures_in_a_row = failures_in_a_row + CASE WHEN cool_down_until > ? THEN 0 ELSE 1 END
     WHERE gpu_id = ? RETURNING tasks_failed, failures_in_a_row`,
    ...[flag(isTask), isoFromMs(nowMs), gpuId],
  )
  return row ? { tasksFailed: row.tasks_failed, failuresInARow: row.failures_in_a_row } : null
}

export async function writeCoolDown(tx: Transaction, gpuId: string, untilMs: number) {
  await tx.run('UPDATE gpu_standings SET cool_down_until = ? WHERE gpu_id = ?', isoFromMs(untilMs), gpuId)
}

export async function countSlowTask(tx: Transaction, gpuId: string): Promise<Pick<GpuStanding, 'tasksSlow'> | null> {
  const row = await tx.get<Pick<StandingRow, 'tasks_slow'>>(
    'UPDATE gpu_standings SET tasks_slow = tasks_slow + 1 WHERE gpu_id = ? RETURNING tasks_slow',
    gpuId,
  )
  return row ? { tasksSlow: row.tasks_slow } : null
}

/** differed: from others, and nobody knows who is right. */
export type AuditOutcome = 'passed' | 'failed' | 'differed'

export async function countAudit(
  tx: Transaction,
  gpuId: string,
  outcome: AuditOutcome,
): Promise<Pick<GpuStanding, 'auditsPassed' | 'auditsFailed' | 'auditsInARow'> | null> {
  const [passed, failed] = [flag(outcome === 'passed'), flag(outcome === 'failed')]
  const row = await tx.get<Pick<StandingRow, 'audits_passed' | 'audits_failed' | 'audits_in_a_row'>>(
    `UPDATE gpu_standings SET audits_passed = audits_passed + ?1, audits_failed = audits_failed + ?2,
       audits_in_a_row = (audits_in_a_row + 1) * ?1 WHERE gpu_id = ?3
     RETURNING audits_passed, audits_failed, audits_in_a_row`,
    ...[passed, failed, gpuId],
  )
  if (!row) return null
  return { auditsPassed: row.audits_passed, auditsFailed: row.audits_failed, auditsInARow: row.audits_in_a_row }
}

export async function writeAuditedAt(tx: Transaction, gpuId: string, atMs: number) {
  await tx.run('UPDATE gpu_standings SET audited_at = ? WHERE gpu_id = ?', isoFromMs(atMs), gpuId)
}
