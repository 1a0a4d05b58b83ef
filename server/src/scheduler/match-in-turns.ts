import { wholeMilli } from '@orbyte/protocol'
import type { Choice } from './gpu-search.ts'
import type { QueuedTask, Turns } from './task-queue.ts'

export type Match = { readonly queued: QueuedTask; readonly choice: Choice }
/** `isWarm`: it has what the task needs in memory. */
export type Found = { readonly choice: Choice; readonly isWarm: boolean }

export type Look = {
  /** The tasks that wait, in turn, from the first one on. */
  turns(): Turns
  /** The best GPU that is free for it. What was found is not free any more once its match is told. */
  find(queued: QueuedTask): Found | null
  /** Nothing is free for it: told once for tasks that want the same. */
  lacks(queued: QueuedTask): void
  patience: Patience
  nowMs(): number
}

/** Tasks that a GPU is looked for between two pauses: some milliseconds. */
const tasksAtOnceMax = 500

/**
 * Finds a GPU for each task in its turn. First whoever finds one that has their model loaded; then the others take what is left.
 * So a GPU that comes free while many wait goes on with the models that it has, and its time goes into work, not into loading.
 * Nobody is passed over for that for longer than `patience` allows.
 *
 * `null` is a pause: whoever runs this lets others go first for a moment, so that a long queue does not keep the market from
 * answering. Whoever is told of a match takes its task out of the queue, and its GPUs from those that are free, before going on.
 */
export function* matchInTurns(look: Look): Generator<Match | null, void, void> {
  // Of tasks that want the same, once one finds nothing, none does: what is free only gets less.
  const hopeless = new Set<string>()
  const passedOver = new Set<string>()
  yield* matchPass(look, hopeless, (group) => {
    const mayPass = look.patience.mayPassOver(group, look.nowMs())
    if (mayPass) passedOver.add(group)
    return mayPass
  })
  if (passedOver.size > 0) yield* matchPass(look, hopeless, () => false)
}

function* matchPass(look: Look, hopeless: Set<string>, mayPassOver: (group: string) => boolean) {
  const turns = look.turns()
  const aside = new Set<string>()
  const isAside = (group: string) => hopeless.has(group) || aside.has(group)
  let tasks = 0
  for (let queued = turns.next(isAside); queued; queued = turns.next(isAside)) {
    if (++tasks > tasksAtOnceMax) {
      tasks = 0
      yield null
      // The task may have left meanwhile.
      continue
    }
    const { group } = queued
    const found = look.find(queued)
    if (!found) {
      hopeless.add(group)
      look.lacks(queued)
    } else if (!found.isWarm && mayPassOver(group)) aside.add(group)
    else {
      look.patience.end(group)
      yield { queued, choice: found.choice }
      turns.taken((found.choice.gpus.length * found.choice.milliEach) / wholeMilli)
    }
  }
}

export type Patience = ReturnType<typeof createPatience>

const groupsMax = 10_000

/** Since when groups of tasks have been passed over. Each match of a group begins it anew. */
export function createPatience(patienceMs: number) {
  const since = new Map<string, number>()
  return {
    mayPassOver(group: string, nowMs: number): boolean {
      const sinceMs = since.get(group)
      if (sinceMs !== undefined) return nowMs - sinceMs < patienceMs
      // Some have left the queue unmatched.
      if (since.size >= groupsMax) since.clear()
      since.set(group, nowMs)
      return patienceMs > 0
    },
    end: (group: string) => void since.delete(group),
  }
}
