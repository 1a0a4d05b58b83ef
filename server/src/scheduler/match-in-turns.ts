import type { MarketGpu } from '../gpus/gpu-registry.ts'
import type { Wanted } from './matching.ts'
import type { QueuedTask, Turns } from './task-queue.ts'

export type Match = { readonly queued: QueuedTask; readonly gpu: MarketGpu }

export type Look = {
  /** The tasks that wait, in turn. */
  readonly turns: Turns
  /** The best GPU that is free for it. What was found is not free any more once its match is told. */
  find(wanted: Wanted): MarketGpu | null
}

/** Tasks that a GPU is looked for between two pauses: some milliseconds. */
const tasksAtOnceMax = 500

/**
 * Finds a GPU for each task in its turn. Tasks of a group want the same: once none is left for one of them, there is none for the
 * others. `null` is a pause: whoever runs this lets others go first for a moment, so that a long queue does not keep the market
 * from answering. Whoever is told of a match takes its task out of the queue, and its GPU from those that are free, before going
 * on.
 */
export function* matchInTurns({ turns, find }: Look): Generator<Match | null, void, void> {
  const hopeless = new Set<string>()
  const isHopeless = (group: string) => hopeless.has(group)
  let tasks = 0
  for (let queued = turns.next(isHopeless); queued; queued = turns.next(isHopeless)) {
    if (++tasks > tasksAtOnceMax) {
      tasks = 0
      yield null
      // The task may have left meanwhile.
      continue
    }
    const gpu = find(queued.wanted)
    if (!gpu) {
      hopeless.add(queued.group)
      continue
    }
    yield { queued, gpu }
    turns.taken()
  }
}
