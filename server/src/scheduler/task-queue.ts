import TinyQueue from 'tinyqueue'
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
  /** When the last attempt at it ended; null: none has begun. */
  readonly triedUntil: string | null
  /** How many GPUs it was offered to so far. */
  readonly offers: number
  /** The GPUs that have failed or refused it. */
  readonly failures: readonly PastFailure[]
}

export type TaskQueue = ReturnType<typeof createTaskQueue>
/** One look at the queue: who goes next, for as long as there are GPUs. */
export type Turns = {
  /** The next task whose group is not passed over, or null: there is none. It stays in the queue. */
  next(isPassedOver: (group: string) => boolean): QueuedTask | null
  /** The last of `next` has got so many GPUs and has left the queue: its renter goes behind whoever has had less now. */
  taken(gpus: number): void
}
/** How renters stand to each other: see fair-share.ts. */
export type Standings = { standingOf(renterId: string): number; stepOf(renterId: string): number }

type Line = Map<string, QueuedTask[]>

/**
 * The tasks that wait, in memory; on disk they are the tasks with status `pending`. Between renters, those who have had least go
 * first. A renter's own tasks go by priority and age: each step of priority is worth `agePerPriorityMs` of waiting, so that a task
 * of low priority gets its turn, too.
 */
export function createTaskQueue({ agePerPriorityMs }: { agePerPriorityMs: number }) {
  const lines = new Map<string, Line>()
  const byId = new Map<string, QueuedTask>()

  /** Smaller goes first. It does not change while the task waits: all age alike. */
  const rankMs = ({ created_at, priority }: OpenTask) => Date.parse(created_at) - priority * agePerPriorityMs
  function goesBefore(a: OpenTask, b: OpenTask): boolean {
    // Times compare as they are written: to read them takes longer than all the rest.
    if (a.priority === b.priority && a.created_at !== b.created_at) return a.created_at < b.created_at
    const differenceMs = a.priority === b.priority ? 0 : rankMs(a) - rankMs(b)
    return differenceMs < 0 || (differenceMs === 0 && a.id < b.id)
  }

  /** Where it stands in its group, or would. */
  function placeOf(task: OpenTask, tasks: readonly QueuedTask[]): number {
    let low = 0
    for (let high = tasks.length; low < high;) {
      const middle = (low + high) >> 1
      if (goesBefore(tasks[middle]!.task, task)) low = middle + 1
      else high = middle
    }
    return low
  }

  function sizeOf(renterId: string): number {
    return [...(lines.get(renterId)?.values() ?? [])].reduce((sum, { length }) => sum + length, 0)
  }

  /** What the market asks for itself has a priority below all others: it comes after everybody, however little it has had. */
  function isMarkets(renterId: string): boolean {
    const [first] = [...(lines.get(renterId)?.values() ?? [])][0] ?? []
    return first !== undefined && first.task.priority < 0
  }

  function ofOthers(renterId: string, each: number): number {
    return [...lines.keys()].reduce((sum, other) => sum + (other === renterId ? 0 : Math.min(each, sizeOf(other))), 0)
  }

  /** A renter's groups by the first task of each. `null`: none is left that is not passed over. */
  function ownTurns(renterId: string) {
    const firsts = [...(lines.get(renterId)?.values() ?? [])].map(([first]) => first!)
    const groups = new TinyQueue(firsts, (a, b) => (goesBefore(a.task, b.task) ? -1 : 1))
    return (isPassedOver: (group: string) => boolean): QueuedTask | null => {
      for (let known = groups.peek(); known; known = groups.peek()) {
        const first = lines.get(renterId)?.get(known.group)?.[0]
        if (first === known && !isPassedOver(first.group)) return first
        groups.pop()
        // The one before it has left.
        if (first && first !== known) groups.push(first)
      }
      return null
    }
  }

  return {
    add(queued: QueuedTask) {
      const { task, group } = queued
      const line = lines.get(task.renter_id) ?? new Map<string, QueuedTask[]>()
      const tasks = line.get(group) ?? []
      tasks.splice(placeOf(task, tasks), 0, queued)
      line.set(group, tasks)
      lines.set(task.renter_id, line)
      byId.set(task.id, queued)
    },

    remove(taskId: string): QueuedTask | null {
      const queued = byId.get(taskId)
      if (!queued) return null
      byId.delete(taskId)
      const { task, group } = queued
      const line = lines.get(task.renter_id)!
      const tasks = line.get(group)!
      tasks.splice(placeOf(task, tasks), 1)
      if (tasks.length === 0) line.delete(group)
      if (line.size === 0) lines.delete(task.renter_id)
      return queued
    },

    get: (taskId: string) => byId.get(taskId),
    size: () => byId.size,
    all: () => byId.values(),
    renters: () => lines.keys(),
    sizeOf: (renterId: string) =>
      [...(lines.get(renterId)?.values() ?? [])].reduce((sum, { length }) => sum + length, 0),

    /** About how many tasks go before it, where all renters stand alike: its renter's own, and as many of each other's. */
    aheadOf({ task }: QueuedTask): number {
      const own = [...(lines.get(task.renter_id)?.values() ?? [])].reduce((sum, tasks) => sum + placeOf(task, tasks), 0)
      return own + ofOthers(task.renter_id, own + 1)
    },
    /** The same for one that would be submitted now. */
    aheadOfNew(renterId: string): number {
      const own = sizeOf(renterId)
      return own + ofOthers(renterId, own + 1)
    },

    /** Who waits now and how they stand. What leaves meanwhile is not told any more; what comes is looked at in the next look. */
    turns({ standingOf, stepOf }: Standings): Turns {
      const waiting = [...lines.keys()].map((renterId, place) => {
        const standing = isMarkets(renterId) ? Infinity : standingOf(renterId)
        return { renterId, place, standing, own: ownTurns(renterId) }
      })
      const renters = new TinyQueue(waiting, (a, b) => a.standing - b.standing || a.place - b.place)
      return {
        next(isPassedOver) {
          for (let first = renters.peek(); first; first = renters.peek()) {
            const next = first.own(isPassedOver)
            if (next) return next
            renters.pop()
          }
          return null
        },
        taken(gpus) {
          const first = renters.pop()!
          renters.push({ ...first, standing: first.standing + gpus * stepOf(first.renterId) })
        },
      }
    },
  }
}
