import type { Task } from '@orbyte/protocol'
import type { Transaction } from '../db/database.ts'
import type { EventLog, StoredEvent } from '../event-store.ts'

type Input = NonNullable<Task['input_data']>
/** `inputBytes`: its size as JSON, in UTF-8. */
export type NewlyWaiting = { id: string; renterId: string; inputBytes: number; input: Input | null }
type Open = { readonly renterId: string; readonly inputBytes: number; input: Input | null; isWaiting: boolean }
/** What a renter has waiting. */
export type Pending = { readonly count: number; readonly inputBytes: number }

/** Inputs that are kept here until they are asked for, in bytes of JSON together; beyond that they are read again. */
const keptBytesMax = 64_000_000

export type WaitingTasks = ReturnType<typeof createWaitingTasks>

/**
 * What memory knows of the tasks that wait, beside the queue: how many each renter has, and what fresh ones are to work on, so that
 * neither has to be read for each task. Follows the event log; what the commit that is being written adds counts at once.
 */
export function createWaitingTasks(events: EventLog) {
  const open = new Map<string, Open>()
  const pending = new Map<string, { count: number; inputBytes: number }>()
  let keptBytes = 0

  function count({ renterId, inputBytes }: Open, sign: 1 | -1) {
    const sum = pending.get(renterId) ?? { count: 0, inputBytes: 0 }
    sum.count += sign
    sum.inputBytes += sign * inputBytes
    if (sum.count === 0) pending.delete(renterId)
    else pending.set(renterId, sum)
  }

  function waits(task: Open, isWaiting: boolean) {
    if (task.isWaiting === isWaiting) return
    task.isWaiting = isWaiting
    count(task, isWaiting ? 1 : -1)
  }

  function add({ id, renterId, inputBytes, input }: NewlyWaiting) {
    const isKept = input !== null && keptBytes + inputBytes <= keptBytesMax
    if (isKept) keptBytes += inputBytes
    const task = { renterId, inputBytes, input: isKept ? input : null, isWaiting: false }
    open.set(id, task)
    waits(task, true)
  }

  function letGoOfInput(task: Open): Input | null {
    const { input } = task
    if (input !== null) keptBytes -= task.inputBytes
    task.input = null
    return input
  }

  function forget(id: string) {
    const task = open.get(id)
    if (!task) return
    waits(task, false)
    letGoOfInput(task)
    open.delete(id)
  }

  function hear({ type, task_id }: StoredEvent) {
    if (task_id === null) return
    if (type === 'task.completed' || type === 'task.failed' || type === 'task.cancelled') return forget(task_id)
    const task = open.get(task_id)
    if (task && type === 'attempt.accepted') waits(task, false)
    if (task && type === 'task.requeued') waits(task, true)
  }

  events.subscribe(hear)

  return {
    /** It was stored in this transaction. */
    add(tx: Transaction, task: NewlyWaiting) {
      add(task)
      tx.onUndo(() => forget(task.id))
    },
    /** At the start: a task that is open. */
    found(task: NewlyWaiting, isWaiting: boolean) {
      add(task)
      waits(open.get(task.id)!, isWaiting)
    },
    pendingOf: (renterId: string): Pending => pending.get(renterId) ?? { count: 0, inputBytes: 0 },
    /** What it is to work on, once. Null: that has to be read. */
    takeInput(id: string): Input | null {
      const task = open.get(id)
      return task ? letGoOfInput(task) : null
    },
  }
}
