import type { PastFailure } from '../tasks/attempt-store.ts'
import type { OpenTask } from '../tasks/task-store.ts'
import type { Wanted } from './matching.ts'

/** A task that waits for a GPU. */
export type QueuedTask = {
  readonly task: OpenTask
  readonly wanted: Wanted
  /** Tasks of a group want the same of a GPU. One that a GPU has failed or refused is a group of its own. */
  readonly group: string
  readonly waitUntilMs: number
  /** How many GPUs it was offered to so far. */
  readonly offers: number
  /** The GPUs that have failed or refused it. */
  readonly failures: readonly PastFailure[]
}

export type TaskQueue = ReturnType<typeof createTaskQueue>

/**
 * The tasks that wait, in memory; on disk they are the tasks with status `pending`. Renters take turns, so that one with many
 * tasks does not keep the others waiting; a renter's own tasks go by priority, then by age.
 */
export function createTaskQueue() {
  const byRenter = new Map<string, QueuedTask[]>()
  const byId = new Map<string, QueuedTask>()
  const inGroup = new Map<string, number>()

  const goesBefore = (a: OpenTask, b: OpenTask) => a.priority > b.priority || (a.priority === b.priority && a.id < b.id)

  return {
    add(queued: QueuedTask) {
      const { id, renter_id } = queued.task
      const tasks = byRenter.get(renter_id) ?? []
      let low = 0
      for (let high = tasks.length; low < high;) {
        const middle = (low + high) >> 1
        if (goesBefore(tasks[middle]!.task, queued.task)) low = middle + 1
        else high = middle
      }
      tasks.splice(low, 0, queued)
      byRenter.set(renter_id, tasks)
      byId.set(id, queued)
      inGroup.set(queued.group, (inGroup.get(queued.group) ?? 0) + 1)
    },

    remove(taskId: string): QueuedTask | null {
      const queued = byId.get(taskId)
      if (!queued) return null
      byId.delete(taskId)
      const others = inGroup.get(queued.group)! - 1
      if (others === 0) inGroup.delete(queued.group)
      else inGroup.set(queued.group, others)
      const tasks = byRenter.get(queued.task.renter_id)!
      tasks.splice(tasks.indexOf(queued), 1)
      if (tasks.length === 0) byRenter.delete(queued.task.renter_id)
      return queued
    },

    /** The renter has had a turn: the others go first now. */
    turnTaken(renterId: string) {
      const tasks = byRenter.get(renterId)
      if (!tasks) return
      byRenter.delete(renterId)
      byRenter.set(renterId, tasks)
    },

    get: (taskId: string) => byId.get(taskId),
    size: () => byId.size,
    /** How many different things are wanted. */
    groups: () => inGroup.size,
    all: () => byId.values(),

    /**
     * One task of each renter, then the next one of each, … : a snapshot, so it may change meanwhile. What the market asks for
     * itself (a priority below all others) comes after everybody.
     */
    inTurns(): QueuedTask[] {
      const lists = [...byRenter.values()]
      const longest = lists.reduce((most, { length }) => Math.max(most, length), 0)
      const turns: QueuedTask[] = []
      const last: QueuedTask[] = []
      for (let turn = 0; turn < longest; turn++)
        for (const list of lists) {
          const queued = list[turn]
          if (queued) (queued.task.priority < 0 ? last : turns).push(queued)
        }
      return [...turns, ...last]
    },
  }
}
