import { afterEach, beforeEach, expect, test } from 'vitest'
import {
  AttemptStatus,
  canAttemptMove,
  canTaskMove,
  type End,
  type Micros,
  type Task,
  TaskStatus,
} from '@orbyte/protocol'
import type { Database, Transaction } from '../db/database.ts'
import { migrate } from '../db/migrations.ts'
import { openSqlite } from '../db/sqlite-database.ts'
import {
  endAttempt,
  insertAttempt,
  insertDeclined,
  moveAttempt,
  type StoredAttempt,
  writeProgress,
} from './attempt-store.ts'
import { finishTask, insertTask, requeueTask, startTask, type StoredTask } from './task-store.ts'

let database: Database
beforeEach(async () => {
  database = openSqlite(':memory:')
  await migrate(database, { backupPath: null })
})
afterEach(() => database.close())

const at = '2026-03-01T12:00:00.000Z'
const end: End = { code: 'tested', message: 'Tested.', decided_by: 'platform' }
const task = {
  ...{ id: 'task_1', renter_id: 'user_1', title: null, task_type: 'other', status: 'pending', input_data: {} },
  ...{ requirements: {}, model: null, max_price_per_hour: 1, max_duration_ms: 1, max_wait_ms: 1, auto_pay: true },
  ...{ priority: 5, hold: 1, created_at: at, updated_at: at },
} as unknown as StoredTask
const attempt = {
  ...{ id: 'att_1', task_id: 'task_1', gpu_id: 'gpu_1', agent_id: 'agt_1', provider_id: 'user_2', number: 1 },
  ...{ fencing_token: 'f', price_per_hour: 1, offered_at: at },
} as unknown as StoredAttempt

const accepted = { status: 'accepted', acceptedAt: at, readyAt: null } as const
/** An attempt is stored when it is accepted, or when it ends before. */
type StoredStatus = Exclude<AttemptStatus, 'offered'>
const storedStatuses = AttemptStatus.options.filter((status): status is StoredStatus => status !== 'offered')

const onlyAttempt = { attemptId: 'att_1', at }
const taskWrites: Record<TaskStatus, (tx: Transaction) => Promise<boolean>> = {
  pending: (tx) => requeueTask(tx, 'task_1', onlyAttempt),
  running: (tx) => startTask(tx, 'task_1', { id: 'att_1', gpuId: 'gpu_1', trial: false, at, readyAt: null }),
  completed: (tx) => finish(tx, 'completed'),
  failed: (tx) => finish(tx, 'failed'),
  cancelled: (tx) => finish(tx, 'cancelled'),
}
const finish = (tx: Transaction, status: TaskStatus, outputData: Task['output_data'] = null) =>
  finishTask(tx, 'task_1', { status, end, cost: 0, runMs: 0, outputData, at })

const endAs = (status: AttemptStatus) => (tx: Transaction) =>
  endAttempt(tx, attempt, { status, end, runMs: 0, cost: 0 as Micros, at })
const attemptWrites: Record<Exclude<StoredStatus, 'accepted'>, (tx: Transaction) => Promise<boolean>> = {
  preparing: (tx) => moveAttempt(tx, 'att_1', { to: 'preparing' }),
  running: (tx) => moveAttempt(tx, 'att_1', { to: 'running', readyAt: at }),
  completed: endAs('completed'),
  failed: endAs('failed'),
  cancelled: endAs('cancelled'),
  refused: endAs('refused'),
  lost: endAs('lost'),
}

/** What was written, and the status afterwards. Whatever it was, nothing of it stays. */
async function tried(table: 'tasks' | 'attempts', from: string, write: (tx: Transaction) => Promise<unknown>) {
  const found: unknown[] = []
  const undo = new Error('nothing stays')
  await database
    .transaction(async (tx) => {
      await insertTask(tx, task)
      await insertAttempt(tx, { attempt, gpus: [] }, accepted)
      await tx.run(`UPDATE ${table} SET status = ?`, from)
      if (table === 'tasks') await tx.run(`UPDATE tasks SET attempt_id = 'att_1'`)
      found.push(await write(tx))
      found.push((await tx.get<{ status: string }>(`SELECT status FROM ${table}`))!.status)
      throw undo
    })
    .catch((error: unknown) => expect(error).toBe(undo))
  return found
}

test('the status of a task is written exactly where the table of moves allows it', async () => {
  for (const from of TaskStatus.options)
    for (const to of TaskStatus.options) {
      const may = canTaskMove(from, to)
      expect([from, to, ...(await tried('tasks', from, taskWrites[to]))]).toEqual([from, to, may, may ? to : from])
    }
})

test('the status of an attempt is written exactly where the table of moves allows it', async () => {
  for (const from of storedStatuses)
    for (const [to, write] of Object.entries(attemptWrites)) {
      const may = canAttemptMove(from, to as AttemptStatus)
      expect([from, to, ...(await tried('attempts', from, write))]).toEqual([from, to, may, may ? to : from])
    }
})

test('progress changes no status', async () => {
  for (const from of storedStatuses) {
    expect(await tried('attempts', from, (tx) => writeProgress(tx, 'att_1', '1 %'))).toEqual([
      from === 'preparing',
      from,
    ])
  }
})

test('an attempt that nobody has accepted is stored only while its task waits', async () => {
  const declined = { status: 'refused', end, endedAt: at } as const
  for (const from of TaskStatus.options) {
    const [isInserted] = await tried('tasks', from, (tx) =>
      insertDeclined(tx, { attempt: { ...attempt, id: 'att_2' }, gpus: [] }, declined),
    )
    expect([from, isInserted]).toEqual([from, from === 'pending'])
  }
})
