import { afterEach, beforeEach, expect, test } from 'vitest'
import { AttemptStatus, canAttemptMove, canTaskMove, type End, TaskStatus } from '@orbyte/protocol'
import type { Database, Transaction } from '../db/database.ts'
import { migrate } from '../db/migrations.ts'
import { openSqlite } from '../db/sqlite-database.ts'
import {
  growLog,
  insertAttempt,
  insertDeclined,
  isOpen,
  moveAttempt,
  type StoredAttempt,
  writeProgress,
} from './attempt-store.ts'
import { endAttempt, finishTask, writeOwnEnd } from './ending-store.ts'
import { NotKeptError } from './reported.ts'
import { inputOfWaiting, insertTask, type StoredTask, usesSince } from './task-store.ts'

let database: Database
beforeEach(async () => {
  database = openSqlite(':memory:')
  await migrate(database, { backupPath: null })
})
afterEach(() => database.close())

const at = '2026-03-01T12:00:00.000Z'
const end: End = { code: 'tested', message: 'Tested.', decided_by: 'platform' }
const task = {
  ...{ id: 'task_1', renter_id: 'user_1', title: null, task_type: 'other', input_data: {}, requirements: {} },
  ...{ model: null, max_price_per_hour: 1, max_duration_ms: 1, max_wait_ms: 1, auto_pay: true, priority: 5, hold: 1 },
  ...{ created_at: at },
} as unknown as StoredTask
const attempt = {
  ...{ id: 'att_1', task_id: 'task_1', gpu_id: 'gpu_1', agent_id: 'agt_1', provider_id: 'user_2', number: 1 },
  ...{ fencing_token: 'f', price_per_hour: 1, offered_at: at },
} as unknown as StoredAttempt
const another = { attempt: { ...attempt, id: 'att_2', number: 2 }, gpus: [] }
const accepted = { status: 'accepted', acceptedAt: at, readyAt: null } as const

/** An attempt is stored when it is accepted, or when it ends before. */
type StoredStatus = Exclude<AttemptStatus, 'offered'>
const storedStatuses = AttemptStatus.options.filter((status): status is StoredStatus => status !== 'offered')
const isEnd = (status: string): status is FinalStatus => ['completed', 'failed', 'cancelled'].includes(status)
type FinalStatus = 'completed' | 'failed' | 'cancelled'

const ending = { end, cost: 0, runMs: 0, outputData: null, at }
const finish = (tx: Transaction, status: FinalStatus, last: StoredAttempt | null = attempt) =>
  finishTask(tx, 'task_1', { ...ending, status, attempt: last })
const reportedAs = (status: AttemptStatus) => ({ status, outputLength: 0, logLines: 0, hasFiles: false })
const endEarly = (tx: Transaction, status: 'failed' | 'lost' | 'refused', from: AttemptStatus) =>
  endAttempt(tx, attempt, { status, end, at, reported: reportedAs(from) }).catch((error: unknown) => {
    expect(error).toBeInstanceOf(NotKeptError)
    return false
  })

/** What was written, and the statuses of task and attempt afterwards. Whatever it was, nothing of it stays. */
async function tried(prepare: (tx: Transaction) => Promise<unknown>, write: (tx: Transaction) => Promise<boolean>) {
  const found = { isWritten: false, task: '', attempt: '' }
  const undo = new Error('nothing stays')
  const statusOf = async (tx: Transaction, states: string, id: string) =>
    (await tx.get<{ status: string }>(`SELECT status FROM ${states} WHERE id = ?`, id))?.status ?? ''
  await database
    .transaction(async (tx) => {
      await insertTask(tx, task)
      await prepare(tx)
      found.isWritten = await write(tx)
      found.task = await statusOf(tx, 'task_states', 'task_1')
      found.attempt = await statusOf(tx, 'attempt_states', 'att_1')
      throw undo
    })
    .catch((error: unknown) => {
      if (error !== undo) throw error
    })
  return found
}

async function begin(tx: Transaction) {
  await insertAttempt(tx, { attempt, gpus: [] }, accepted)
  await tx.run(`UPDATE attempts SET status = 'running'`)
}

/** Brings the task there. */
const taskIs = (status: TaskStatus) => async (tx: Transaction) => {
  if (status === 'pending') return
  await begin(tx)
  if (isEnd(status)) await finish(tx, status)
}

/** Brings the attempt there: it ends with its task where that can end so, and else before. */
const attemptIs = (status: StoredStatus) => async (tx: Transaction) => {
  await begin(tx)
  if (isEnd(status)) await finish(tx, status)
  else if (status === 'lost') await endEarly(tx, status, 'running')
  else if (status === 'refused')
    await tx.run(`UPDATE attempts SET status = 'refused', end_code = 'refused', ended_at = ?`, at)
  else await tx.run('UPDATE attempts SET status = ?', status)
}

test('a task gets from one status to another exactly where the table of moves allows it', async () => {
  for (const from of TaskStatus.options) {
    const ending = from === 'pending' ? null : attempt
    const writes: Record<TaskStatus, (tx: Transaction) => Promise<boolean>> = {
      pending: (tx) => endEarly(tx, 'failed', 'running'),
      running: (tx) => insertAttempt(tx, another, accepted),
      completed: (tx) => finish(tx, 'completed', ending),
      failed: (tx) => finish(tx, 'failed', ending),
      cancelled: (tx) => finish(tx, 'cancelled', ending),
    }
    for (const to of TaskStatus.options) {
      const may = canTaskMove(from, to)
      const { isWritten, task: status } = await tried(taskIs(from), writes[to])
      expect([from, to, isWritten, status]).toEqual([from, to, may, may ? to : from])
    }
  }
})

test('an attempt gets from one status to another exactly where the table of moves allows it', async () => {
  for (const from of storedStatuses) {
    const writes: Record<Exclude<StoredStatus, 'accepted'>, (tx: Transaction) => Promise<boolean>> = {
      preparing: (tx) => moveAttempt(tx, attempt, { to: 'preparing' }),
      running: (tx) => moveAttempt(tx, attempt, { to: 'running', readyAt: at }),
      completed: (tx) => finish(tx, 'completed'),
      failed: (tx) => finish(tx, 'failed'),
      cancelled: (tx) => finish(tx, 'cancelled'),
      refused: (tx) => endEarly(tx, 'refused', from),
      lost: (tx) => endEarly(tx, 'lost', from),
    }
    for (const [to, write] of Object.entries(writes)) {
      const may = canAttemptMove(from, to as AttemptStatus)
      const { isWritten, attempt: status } = await tried(attemptIs(from), write)
      expect([from, to, isWritten, status]).toEqual([from, to, may, may ? to : from])
    }
  }
})

test('a result ends no attempt that could not have one, nor one that is not as far as its agent has said', async () => {
  const finishReported = (status: AttemptStatus) => (tx: Transaction) =>
    finishTask(tx, 'task_1', { ...ending, status: 'completed', attempt, reported: reportedAs(status) })
  for (const from of storedStatuses) {
    const { isWritten } = await tried(attemptIs(from), finishReported(from))
    expect([from, isWritten]).toEqual([from, canAttemptMove(from, 'completed')])
  }
  await expect(tried(attemptIs('preparing'), finishReported('running'))).rejects.toThrow(NotKeptError)
})

test('a task that runs does not end without its attempt, one that waits with none, and none with another one’s', async () => {
  for (const status of ['failed', 'cancelled'] as const) {
    expect(await tried(begin, (tx) => finish(tx, status, null))).toMatchObject({ isWritten: false, task: 'running' })
    expect(await tried(begin, (tx) => finish(tx, status, another.attempt))).toMatchObject({ isWritten: false })
    expect(await tried(taskIs('pending'), (tx) => finish(tx, status))).toMatchObject({ isWritten: false })
  }
})

test('an attempt ends as its task does, unless it has an end of its own', async () => {
  const own: End = { code: 'gone', message: 'Gone.', decided_by: 'platform' }
  await database.transaction(async (tx) => {
    await insertTask(tx, task)
    await begin(tx)
    await tx.run(`UPDATE attempts SET run_ms = 7, progress = 'half'`)
    await finishTask(tx, 'task_1', { status: 'failed', end, cost: 3, runMs: 5, outputData: null, at, attempt })
    const ended = `SELECT status, progress, run_ms, cost_micros, end_code, end_message, end_decided_by, ended_at FROM attempt_states`
    const withTask = { progress: null, run_ms: 5, cost_micros: 3, ended_at: at }
    expect(await tx.get(ended)).toEqual({
      ...withTask,
      ...{ status: 'failed', end_code: end.code, end_message: end.message, end_decided_by: end.decided_by },
    })
    await writeOwnEnd(tx, attempt, { status: 'lost', end: own })
    expect(await tx.get(ended)).toEqual({
      ...withTask,
      ...{ status: 'lost', end_code: own.code, end_message: own.message, end_decided_by: own.decided_by },
    })
  })
})

test('an attempt that ends before its task is charged for nothing, and ends only as far as its agent has said', async () => {
  const failed = (status: AttemptStatus) => ({ status: 'failed', end, at, reported: reportedAs(status) }) as const
  await database.transaction(async (tx) => {
    await insertTask(tx, task)
    await begin(tx)
    await tx.run(`UPDATE attempts SET run_ms = 7, progress = 'half'`)
    await expect(endAttempt(tx, attempt, failed('accepted'))).rejects.toThrow(NotKeptError)
    expect(await endAttempt(tx, attempt, failed('running'))).toBe(true)
    expect(await endAttempt(tx, attempt, failed('accepted'))).toBe(false)
    const found = await tx.get('SELECT status, progress, run_ms, cost_micros, end_code, ended_at FROM attempt_states')
    const none = { progress: null, run_ms: 0, cost_micros: 0 }
    expect(found).toEqual({ status: 'failed', end_code: end.code, ended_at: at, ...none })
  })
})

test('progress changes no status', async () => {
  for (const from of storedStatuses) {
    const { isWritten, attempt: status } = await tried(attemptIs(from), (tx) => writeProgress(tx, attempt, '1 %'))
    expect([isWritten, status]).toEqual([from === 'preparing', from])
  }
})

test('an attempt that nobody has accepted is stored only while its task waits', async () => {
  const declined = { status: 'refused', end, endedAt: at } as const
  for (const from of TaskStatus.options) {
    const { isWritten } = await tried(taskIs(from), (tx) => insertDeclined(tx, another, declined))
    expect([from, isWritten]).toEqual([from, from === 'pending'])
  }
})

test('what a task is to work on is told while it waits, and what an attempt logs is kept until it ends', async () => {
  const isInputTold = async (tx: Transaction) => (await inputOfWaiting(tx, 'task_1')) !== null
  for (const status of TaskStatus.options)
    expect([status, (await tried(taskIs(status), isInputTold)).isWritten]).toEqual([status, status === 'pending'])
  const logs = (tx: Transaction) => growLog(tx, attempt, { offset: 0, lines: 1 })
  for (const status of storedStatuses) {
    const may = [(await tried(attemptIs(status), logs)).isWritten]
    may.push((await tried(attemptIs(status), (tx) => isOpen(tx, attempt))).isWritten)
    const hasNotEnded = ['accepted', 'preparing', 'running'].includes(status)
    expect([status, ...may]).toEqual([status, hasNotEnded, hasNotEnded])
  }
})

test('what a renter has had of GPUs is what the attempts had that ended with their tasks', async () => {
  const shares = (milli: number) => [
    { gpu_id: 'gpu_1', milli, vram_gb: null, price_per_hour: attempt.price_per_hour },
    { gpu_id: 'gpu_2', milli, vram_gb: null, price_per_hour: attempt.price_per_hour },
  ]
  await database.transaction(async (tx) => {
    await insertTask(tx, task)
    await insertAttempt(tx, { attempt, gpus: shares(400) }, { ...accepted, status: 'running', readyAt: at })
    await endEarly(tx, 'lost', 'running')
    await insertAttempt(tx, { ...another, gpus: shares(250) }, { ...accepted, status: 'running', readyAt: at })
    await finishTask(tx, 'task_1', { ...ending, status: 'completed', runMs: 1_000, attempt: another.attempt })
    expect(await usesSince(tx, '2026')).toMatchObject([{ renterId: 'user_1', endedAt: at, gpuMs: 500 }])
  })
})
