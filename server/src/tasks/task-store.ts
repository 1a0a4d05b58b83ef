import {
  isTaskFinal,
  type Reexecution,
  type Task,
  type TaskStatus,
  type TaskSummary,
  type TaskType,
} from '@orbyte/protocol'
import { flag, placeOf, type Reader, type Row, type Transaction } from '../db/database.ts'
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

type TaskRow = Row & {
  auto_pay: number
  allow_reexecution: number
  requirements: string
  input_data: string | null
  output_data: string | null
}

const summaryColumns = `s.id, s.renter_id, s.title, s.task_type, s.status, s.gpu_id, s.max_price_micros_per_hour AS max_price_per_hour,
  s.max_duration_ms, s.max_wait_ms, s.auto_pay, s.allow_reexecution, s.priority, s.hold_micros AS hold, s.cost_micros AS cost, s.run_ms,
  s.attempts_count, s.end_code, s.end_message, s.end_decided_by, s.created_at, s.updated_at, s.started_at, s.completed_at`
const openColumns = `id, renter_id, task_type, requirements, model, max_price_micros_per_hour AS max_price_per_hour,
  max_duration_ms, max_wait_ms, auto_pay, allow_reexecution, priority, hold_micros AS hold, created_at`
const columns = `${summaryColumns}, s.input_data, s.output_data, s.requirements, s.model, s.attempt_id, s.data_deleted_at, s.reexecution`

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

/** Stores one that was just submitted. Returns the size of its input as JSON, in bytes. */
export async function insertTask(tx: Transaction, task: StoredTask): Promise<number> {
  const t = task
  const input = JSON.stringify(t.input_data)
  const inputBytes = Buffer.byteLength(input)
  await tx.run(
    `INSERT INTO tasks (id, renter_id, title, task_type, status, input_data, input_bytes, requirements, model,
       max_price_micros_per_hour, max_duration_ms, max_wait_ms, auto_pay, allow_reexecution, priority, hold_micros, created_at)
     VALUES (?, ?, ?, ?, 'open', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
    ...[t.id, t.renter_id, t.title, t.task_type, input, inputBytes, JSON.stringify(t.requirements), t.model],
    ...[
      t.max_price_per_hour,
      t.max_duration_ms,
      t.max_wait_ms,
      flag(t.auto_pay),
      flag(t.allow_reexecution),
      t.priority,
      t.hold,
      t.created_at,
    ],
  )
  return inputBytes
}

export async function taskById(reader: Reader, id: string): Promise<StoredTask | undefined> {
  const row = await reader.get<TaskRow>(`SELECT ${columns} FROM task_states s WHERE s.id = ?`, id)
  return row && toTask(row)
}

/** Newest first, from the one before the task `before` on. */
export async function tasksOfRenter(
  reader: Reader,
  query: { renterId: string; status: TaskStatus | null; taskType: TaskType | null; before: string; limit: number },
): Promise<TaskSummary[]> {
  const { renterId, status, taskType, before, limit } = query
  const joins = 'JOIN task_states s ON s.row = t.row'
  const ofType = '(?3 IS NULL OR t.task_type = ?3)'
  const params = [renterId, before, taskType, status]
  if (status !== null && !isTaskFinal(status)) {
    // Few of a renter's are open, and only their attempts say which of these wait.
    const rows = await reader.all<TaskRow>(
      `SELECT ${summaryColumns} FROM tasks t INDEXED BY tasks_open CROSS ${joins}
       WHERE t.status = 'open' AND t.renter_id = ?1 AND t.row < ${placeOf('tasks', '?2')} AND ${ofType} AND s.status = ?4
       ORDER BY t.row DESC LIMIT ?5`,
      ...[...params, limit],
    )
    return rows.map(toSummary)
  }
  const rows = await readOwned<TaskRow>(reader, {
    list: ownedRows.tasksOfRenter,
    select: summaryColumns,
    joins,
    owner: '?1',
    before: placeOf('tasks', '?2'),
    where: `t.renter_id = ?1 AND ${ofType} AND (?4 IS NULL OR t.status = ?4)`,
    params,
    limit,
  })
  return rows.map(toSummary)
}

/** Tasks that have not ended, oldest first. */
export async function openTasks(reader: Reader) {
  const rows = await reader.all<TaskRow & { waits: number; input_bytes: number }>(
    `SELECT ${openColumns}, input_bytes, NOT EXISTS (SELECT 1 FROM attempts WHERE task_id = tasks.id AND ended_at IS NULL) AS waits
     FROM tasks INDEXED BY tasks_open WHERE status = 'open' ORDER BY id`,
  )
  return rows.map(({ waits, input_bytes: inputBytes, ...row }) => {
    const task = { ...row, ...flagsOf(row), requirements: JSON.parse(row.requirements) } as unknown as OpenTask
    return { task, isWaiting: waits === 1, inputBytes }
  })
}

/** A renter's tasks that have not ended, oldest first, ids above `after`. */
export async function openTasksOfRenter(
  reader: Reader,
  query: { renterId: string; after: string; limit: number },
): Promise<EndableTask[]> {
  const rows = await reader.all<TaskRow>(
    `SELECT id, renter_id, hold_micros AS hold, auto_pay FROM tasks
     WHERE renter_id = ? AND status = 'open' AND id > ? ORDER BY id LIMIT ?`,
    ...[query.renterId, query.after, query.limit],
  )
  return rows.map((row) => ({ ...row, auto_pay: row.auto_pay === 1 }) as unknown as EndableTask)
}

/** What a waiting task is to work on; null: it does not wait any more. */
export async function inputOfWaiting(reader: Reader, id: string): Promise<Task['input_data']> {
  const row = await reader.get<{ input_data: string }>(
    `SELECT input_data FROM task_states WHERE id = ? AND status = 'pending'`,
    id,
  )
  return row ? fromJson(row.input_data) : null
}

/** How many attempts at it have begun, without trials. */
export async function attemptsCountOf(reader: Reader, id: string): Promise<number> {
  return (await reader.get<{ count: number }>('SELECT attempts_count AS count FROM task_states WHERE id = ?', id))!
    .count
}

/** What a task is to work on, whatever has become of it; null: it was deleted. */
export async function inputOf(reader: Reader, id: string): Promise<Task['input_data']> {
  const row = await reader.get<{ input_data: string | null }>('SELECT input_data FROM tasks WHERE id = ?', id)
  return fromJson(row?.input_data ?? null)
}

export async function writeReexecution(tx: Transaction, id: string, status: Reexecution) {
  await tx.run('UPDATE tasks SET reexecution = ? WHERE id = ?', status, id)
}

/** Removes a task's input and output; what it put out while it ran is the event log's, its files are task-file-store.ts's. */
export async function deleteTaskData(tx: Transaction, id: string, at: string) {
  await tx.run('UPDATE tasks SET input_data = NULL, output_data = NULL, data_deleted_at = ? WHERE id = ?', ...[at, id])
}

/** Ended tasks whose data is older than `before`, the oldest first. */
export async function tasksWithOldData(reader: Reader, query: { before: string; limit: number }): Promise<string[]> {
  const rows = await reader.all<{ id: string }>(
    `SELECT id FROM tasks WHERE completed_at < ? AND data_deleted_at IS NULL ORDER BY completed_at LIMIT ?`,
    ...[query.before, query.limit],
  )
  return rows.map(({ id }) => id)
}

/** How long the tasks of each renter have had GPUs that ended after `since` and still have their data, by the hour of their end. */
export function usesSince(reader: Reader, since: string) {
  return reader.all<{ renterId: string; endedAt: string; gpuMs: number }>(
    `SELECT renter_id AS renterId, max(completed_at) AS endedAt,
       sum(run_ms * coalesce((SELECT sum(milli) FROM attempts a JOIN attempt_gpus m ON m.attempt_id = a.id
         WHERE a.task_id = tasks.id AND a.ended_at IS NULL), 1000)) / 1000.0 AS gpuMs
     FROM tasks WHERE completed_at > ? AND data_deleted_at IS NULL GROUP BY renter_id, substr(completed_at, 1, 13)`,
    since,
  )
}
