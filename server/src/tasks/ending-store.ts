import {
  type AttemptStatus,
  attemptStatusesBefore,
  canTaskMove,
  type End,
  type Task,
  type TaskStatus,
} from '@orbyte/protocol'
import { type Reader, statementBy, type Transaction, words } from '../db/database.ts'
import { type AttemptRef, isThisAndOpen, isWaiting } from './attempt-store.ts'
import { NotKeptError, type Reported } from './reported.ts'

/*
 * How tasks and attempts end. An attempt whose task ends with it is not written: that it has ended, and how, its task says. So what
 * is asked of an attempt here is asked by the statement that ends its task.
 */

const mayEndAs = (status: AttemptStatus) => `status IN (${words(attemptStatusesBefore(status))})`
/** Preparing may be reported and not kept: it says no more than that it was accepted. */
const isAsReported = `replace(status, 'preparing', 'accepted') = ? AND output_length = ? AND log_lines = ?`
const valuesOf = ({ status, outputLength, logLines }: Reported) =>
  [status === 'preparing' ? 'accepted' : status, outputLength, logLines] as const

const finishAs = (status: TaskStatus, condition: string) =>
  `UPDATE tasks SET status = '${status}', end_code = ?, end_message = ?, end_decided_by = ?, cost_micros = ?, run_ms = ?,
     output_data = ?, completed_at = ? WHERE id = ? AND status = 'open' AND ${condition}`
const openAttempt = 'SELECT 1 FROM attempts WHERE task_id = tasks.id AND ended_at IS NULL'

const finishWaiting = statementBy((status: TaskStatus) => finishAs(status, `NOT EXISTS (${openAttempt})`))
const finishRunning = statementBy((status: TaskStatus & AttemptStatus) =>
  finishAs(status, `EXISTS (${openAttempt} AND id = ? AND ${mayEndAs(status)})`),
)
const finishReported = statementBy((status: TaskStatus & AttemptStatus) =>
  finishAs(status, `EXISTS (${openAttempt} AND id = ? AND ${mayEndAs(status)} AND ${isAsReported})`),
)

type TaskEnding = {
  status: 'completed' | 'failed' | 'cancelled'
  end: End
  cost: number
  runMs: number
  outputData: Task['output_data']
  at: string
  /** The one that ends with it; null: it waits. */
  attempt: AttemptRef | null
  reported?: Reported
}

/**
 * False, and nothing changed: the task or the attempt has ended already, or cannot end so. Throws `NotKeptError` where the attempt
 * is not as far as its agent has `reported`: something of that failed, and is said again.
 */
export async function finishTask(tx: Transaction, id: string, ending: TaskEnding): Promise<boolean> {
  const { status, end, cost, runMs, outputData, at, attempt, reported } = ending
  const output = outputData && JSON.stringify(outputData)
  const values = [end.code, end.message, end.decided_by, cost, runMs, output, at, id] as const
  if (!attempt) return canTaskMove('pending', status) && (await tx.run(finishWaiting(status), ...values)) === 1
  if (!reported) return (await tx.run(finishRunning(status), ...values, attempt.id)) === 1
  const changed = await tx.run(finishReported(status), ...values, attempt.id, ...valuesOf(reported))
  if (changed === 0) await assertKept(tx, attempt, reported)
  return changed === 1
}

const writeOwnEndAs = statementBy(
  (status: AttemptStatus) =>
    `UPDATE attempts SET status = '${status}', end_code = ?, end_message = ?, end_decided_by = ?
     WHERE task_id = ? AND ended_at IS NULL AND id = ? AND ${mayEndAs(status)}`,
)

/** How an attempt ended whose task has just ended with it in another way. */
export async function writeOwnEnd(
  tx: Transaction,
  attempt: AttemptRef,
  { status, end }: { status: AttemptStatus; end: End },
) {
  const values = [end.code, end.message, end.decided_by, attempt.task_id, attempt.id] as const
  if ((await tx.run(writeOwnEndAs(status), ...values)) !== 1) throw new Error(`${attempt.id} cannot end as ${status}`)
}

const endAttemptAs = statementBy(
  (status: AttemptStatus) =>
    `UPDATE attempts SET status = '${status}', progress = NULL, run_ms = 0, end_code = ?, end_message = ?, end_decided_by = ?,
       ended_at = ? WHERE ${isThisAndOpen} AND ${mayEndAs(status)} AND ${isAsReported}`,
)

/** Ends an attempt before its task, which waits again. False and `NotKeptError`: as above. */
export async function endAttempt(
  tx: Transaction,
  attempt: AttemptRef,
  { status, end, at, reported }: { status: AttemptStatus; end: End; at: string; reported: Reported },
): Promise<boolean> {
  const values = [end.code, end.message, end.decided_by, at, attempt.id, attempt.task_id] as const
  const changed = await tx.run(endAttemptAs(status), ...values, ...valuesOf(reported))
  if (changed === 0) await assertKept(tx, attempt, reported)
  return changed === 1
}

/** Where it has ended, or its task before it was stored, there is nothing left to keep. */
async function assertKept(reader: Reader, { id, task_id }: AttemptRef, reported: Reported) {
  const stored = await reader.get<{ kept: number }>(
    `SELECT ended_at IS NOT NULL OR (${isAsReported}) AS kept FROM attempt_states WHERE task_id = ? AND id = ?`,
    ...[...valuesOf(reported), task_id, id],
  )
  const isKept = stored ? stored.kept === 1 : !(await isWaiting(reader, task_id))
  if (!isKept) throw new NotKeptError(`not all that was reported of ${id} is kept`)
}
