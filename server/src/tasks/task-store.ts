import {
  type End,
  type Reexecution,
  type Task,
  type TaskStatus,
  taskStatusesBefore,
  type TaskSummary,
  type TaskType,
} from '@orbyte/protocol'
import { flag, placeOf, type Reader, type Row, statementBy, type Transaction, words } from '../db/database.ts'
import { ownedRows, readOwned } from '../db/owned-rows.ts'
import { endOf } from './attempt-store.ts'

/** A task as it is stored. `model` is the resolved name of the model that it needs. */
export type StoredTask = TaskSummary &
  Pick<Task, 'input_data' | 'output_data' | 'requirements' | 'reexecution'> & {
    model: string | null
    attempt_id: string | null
    data_deleted_at: string | null
  }

/** What matching needs of a task, and what ending it needs: all that is kept in memory of one that is open. */
export type OpenTask = EndableTask &
  Pick<
    StoredTask,
    | 'task_type'
    | 'requirements'
    | 'model'
    | 'max_price_per_hour'
    | 'max_duration_ms'
    | 'max_wait_ms'
    | 'priority'
    | 'allow_reexecution'
    | 'created_at'
  >
export type EndableTask = Pick<StoredTask, 'id' | 'renter_id' | 'hold' | 'auto_pay'>
/** Also needs its current attempt. */
export type CancellableTask = EndableTask & Pick<StoredTask, 'attempt_id'>

type TaskRow = Row & {
  auto_pay: number
  allow_reexecution: number
  requirements: string
  input_data: string | null
  output_data: string | null
}

const summaryColumns = `id, renter_id, title, task_type, status, gpu_id, max_price_micros_per_hour AS max_price_per_hour,
  max_duration_ms, max_wait_ms, auto_pay, allow_reexecution, priority, hold_micros AS hold, cost_micros AS cost, run_ms, attempts_count, end_code,
  end_message, end_decided_by, created_at, updated_at, started_at, completed_at`
const openColumns = `id, renter_id, task_type, requirements, model, max_price_micros_per_hour AS max_price_per_hour,
  max_duration_ms, max_wait_ms, auto_pay, allow_reexecution, priority, hold_micros AS hold, created_at`
const columns = `${summaryColumns}, input_data, output_data, requirements, model, attempt_id, data_deleted_at, reexecution`

const flagsOf = (row: Row) => ({ auto_pay: row.auto_pay === 1, allow_reexecution: row.allow_reexecution === 1 })
const toSummary = (row: Row) => ({ ...row, ...flagsOf(row), end: endOf(row) }) as unknown as TaskSummary
const fromJson = (text: string | null) => (text === null ? null : JSON.parse(text))

function toTask(row: TaskRow): StoredTask {
  return {
    ...toSummary(row),
    input_data: fromJson(row.input_data),
    output_data: fromJson(row.output_data),
    requirements: JSON.parse(row.requirements),
    model: row.model as string | null,
    attempt_id: row.attempt_id as string | null,
    data_deleted_at: row.data_deleted_at as string | null,
    reexecution: row.reexecution as Task['reexecution'],
  }
}

/** Without its input and whatever else only the database keeps. */
export function openTaskOf(task: StoredTask): OpenTask {
  return {
    id: task.id,
    renter_id: task.renter_id,
    task_type: task.task_type,
    requirements: task.requirements,
    model: task.model,
    max_price_per_hour: task.max_price_per_hour,
    max_duration_ms: task.max_duration_ms,
    max_wait_ms: task.max_wait_ms,
    auto_pay: task.auto_pay,
    allow_reexecution: task.allow_reexecution,
    priority: task.priority,
    hold: task.hold,
    created_at: task.created_at,
  }
}

/** Returns the size of its input as JSON, in bytes. */
export async function insertTask(tx: Transaction, task: StoredTask): Promise<number> {
  const t = task
  const input = JSON.stringify(t.input_data)
  const inputBytes = Buffer.byteLength(input)
  await tx.run(
    `INSERT INTO tasks (id, renter_id, title, task_type, status, input_data, input_bytes, requirements, model,
       max_price_micros_per_hour, max_duration_ms, max_wait_ms, auto_pay, allow_reexecution, priority, hold_micros, created_at, updated_at)
     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
    ...[t.id, t.renter_id, t.title, t.task_type, t.status, input, inputBytes, JSON.stringify(t.requirements), t.model],
    ...[
      t.max_price_per_hour,
      t.max_duration_ms,
      t.max_wait_ms,
      flag(t.auto_pay),
      flag(t.allow_reexecution),
      t.priority,
      t.hold,
      t.created_at,
      t.updated_at,
    ],
  )
  return inputBytes
}

export async function taskById(reader: Reader, id: string): Promise<StoredTask | undefined> {
  const row = await reader.get<TaskRow>(`SELECT ${columns} FROM tasks WHERE id = ?`, id)
  return row && toTask(row)
}

/** Newest first, from the one before the task `before` on. */
export async function tasksOfRenter(
  reader: Reader,
  query: { renterId: string; status: TaskStatus | null; taskType: TaskType | null; before: string; limit: number },
): Promise<TaskSummary[]> {
  const rows = await readOwned<TaskRow>(reader, {
    list: ownedRows.tasksOfRenter,
    select: summaryColumns,
    owner: '?1',
    before: placeOf('tasks', '?2'),
    where: 'renter_id = ?1 AND (?3 IS NULL OR status = ?3) AND (?4 IS NULL OR task_type = ?4)',
    params: [query.renterId, query.before, query.status, query.taskType],
    limit: query.limit,
  })
  return rows.map(toSummary)
}

/** Tasks that have not ended, oldest first. */
export async function openTasks(reader: Reader) {
  const rows = await reader.all<TaskRow & { status: TaskStatus; input_bytes: number }>(
    `SELECT ${openColumns}, status, input_bytes FROM tasks INDEXED BY tasks_open_by_renter
     WHERE status IN ('pending', 'running') ORDER BY id`,
  )
  return rows.map(({ status, input_bytes: inputBytes, ...row }) => {
    const task = { ...row, ...flagsOf(row), requirements: JSON.parse(row.requirements) } as unknown as OpenTask
    return { task, isWaiting: status === 'pending', inputBytes }
  })
}

/** A renter's tasks that have not ended, oldest first, ids above `after`. */
export async function openTasksOfRenter(
  reader: Reader,
  query: { renterId: string; after: string; limit: number },
): Promise<CancellableTask[]> {
  const rows = await reader.all<TaskRow>(
    `SELECT id, renter_id, hold_micros AS hold, auto_pay, attempt_id FROM tasks
     WHERE renter_id = ? AND status IN ('pending', 'running') AND id > ? ORDER BY id LIMIT ?`,
    ...[query.renterId, query.after, query.limit],
  )
  return rows.map((row) => ({ ...row, auto_pay: row.auto_pay === 1 }) as unknown as CancellableTask)
}

/** What a waiting task is to work on; null: it does not wait any more. */
export async function inputOfWaiting(reader: Reader, id: string): Promise<Task['input_data']> {
  const row = await reader.get<{ input_data: string }>(
    `SELECT input_data FROM tasks WHERE id = ? AND status = 'pending'`,
    id,
  )
  return row ? fromJson(row.input_data) : null
}

/** How many attempts at it have begun, without trials. */
export async function attemptsCountOf(reader: Reader, id: string): Promise<number> {
  return (await reader.get<{ count: number }>('SELECT attempts_count AS count FROM tasks WHERE id = ?', id))!.count
}

/** What a task is to work on, whatever has become of it; null: it was deleted. */
export async function inputOf(reader: Reader, id: string): Promise<Task['input_data']> {
  const row = await reader.get<{ input_data: string | null }>('SELECT input_data FROM tasks WHERE id = ?', id)
  return fromJson(row?.input_data ?? null)
}

const startTaskSql = `UPDATE tasks SET status = 'running', attempt_id = ?, gpu_id = ?, attempts_count = attempts_count + ?,
  started_at = coalesce(started_at, ?), updated_at = ? WHERE id = ? AND status IN (${words(taskStatusesBefore('running'))})`

type Start = { id: string; gpuId: string; trial: boolean; at: string; readyAt: string | null }

/**
 * The task's current attempt becomes this one; a trial does not count. `readyAt`: null where it is not ready yet. False: the task
 * is not waiting any more.
 */
export async function startTask(tx: Transaction, id: string, { id: attemptId, gpuId, trial, at, readyAt }: Start) {
  return (await tx.run(startTaskSql, ...[attemptId, gpuId, flag(!trial), readyAt, at, id])) === 1
}

export async function markStarted(tx: Transaction, id: string, at: string) {
  await tx.run('UPDATE tasks SET started_at = coalesce(started_at, ?1), updated_at = ?1 WHERE id = ?2', at, id)
}

/** Back to the queue, if `attemptId` is still its current attempt. */
export async function requeueTask(
  tx: Transaction,
  id: string,
  { attemptId, at }: { attemptId: string; at: string },
): Promise<boolean> {
  const changed = await tx.run(
    `UPDATE tasks SET status = 'pending', attempt_id = NULL, gpu_id = NULL, updated_at = ?
     WHERE id = ? AND attempt_id = ? AND status IN (${words(taskStatusesBefore('pending'))})`,
    ...[at, id, attemptId],
  )
  return changed === 1
}

const finishTaskAs = statementBy(
  (status: TaskStatus) =>
    `UPDATE tasks SET status = '${status}', end_code = ?1, end_message = ?2, end_decided_by = ?3, cost_micros = ?4, run_ms = ?5,
       output_data = ?6, updated_at = ?7, completed_at = ?7 WHERE id = ?8 AND status IN (${words(taskStatusesBefore(status))})`,
)

/** False: it has ended already, or cannot end so. */
export async function finishTask(
  tx: Transaction,
  id: string,
  ending: { status: TaskStatus; end: End; cost: number; runMs: number; outputData: Task['output_data']; at: string },
): Promise<boolean> {
  const { status, end, cost, runMs, outputData, at } = ending
  const changed = await tx.run(
    finishTaskAs(status),
    ...[end.code, end.message, end.decided_by, cost, runMs, outputData && JSON.stringify(outputData), at, id],
  )
  return changed === 1
}

export async function writeReexecution(tx: Transaction, id: string, status: Reexecution) {
  await tx.run('UPDATE tasks SET reexecution = ? WHERE id = ?', status, id)
}

/** Removes a task's input and output; what it put out while it ran is the event log's, its files are task-file-store.ts's. */
export async function deleteTaskData(tx: Transaction, id: string, at: string) {
  await tx.run(
    'UPDATE tasks SET input_data = NULL, output_data = NULL, data_deleted_at = ?1, updated_at = ?1 WHERE id = ?2',
    ...[at, id],
  )
}

/** Ended tasks whose data is older than `before`, the oldest first. */
export async function tasksWithOldData(reader: Reader, query: { before: string; limit: number }): Promise<string[]> {
  const rows = await reader.all<{ id: string }>(
    `SELECT id FROM tasks WHERE completed_at < ? AND data_deleted_at IS NULL ORDER BY completed_at LIMIT ?`,
    ...[query.before, query.limit],
  )
  return rows.map(({ id }) => id)
}

/** How long the tasks of each renter have run that ended after `since` and still have their data, by the hour of their end. */
export function usesSince(reader: Reader, since: string) {
  return reader.all<{ renterId: string; endedAt: string; runMs: number }>(
    `SELECT renter_id AS renterId, max(completed_at) AS endedAt, sum(run_ms) AS runMs FROM tasks
     WHERE completed_at > ? AND data_deleted_at IS NULL GROUP BY renter_id, substr(completed_at, 1, 13)`,
    since,
  )
}
