import type { MarketGpu } from '../gpus/gpu-registry.ts'
import { chooseBest, judgeFit, judgeNow, type Verdict } from './matching.ts'
import type { QueuedTask, Turns } from './task-queue.ts'

export type Match = { readonly queued: QueuedTask; readonly gpu: MarketGpu }

export type Look = {
  /** The tasks that wait, in turn. */
  readonly turns: Turns
  /** The GPUs that may be asked. Each is taken out with its match; the caller takes out what it may no longer ask. */
  readonly free: Set<MarketGpu>
  all(): readonly MarketGpu[]
  nowMs(): number
  /** From 0 to 1. */
  random(): number
}

/** GPUs that are judged and tasks that are passed between two pauses: about two milliseconds. */
const stepsAtOnceMax = 10_000

/**
 * Finds a GPU for each task in its turn. Tasks of a group want the same: their GPUs are judged once, and once none is left for
 * one of them, there is none for the others, because `free` only gets smaller. `null` is a pause: whoever runs this lets others
 * go first for a moment, so that a long queue does not keep the market from answering. Whoever is told of a match takes its task out
 * of the queue before going on.
 */
export function* matchInTurns(look: Look): Generator<Match | null, void, void> {
  const { turns, free } = look
  const fittingOf = new Map<string, Verdict[]>()
  const hopeless = new Set<string>()
  const isHopeless = (group: string) => hopeless.has(group)
  let steps = 0
  for (let queued = turns.next(isHopeless); queued && free.size > 0; queued = turns.next(isHopeless)) {
    const { group, wanted } = queued
    if (++steps > stepsAtOnceMax) {
      yield null
      steps = 0
      // GPUs may have changed meanwhile, and the task may have left.
      fittingOf.clear()
      continue
    }
    let fitting = fittingOf.get(group)
    if (!fitting) {
      const nowMs = look.nowMs()
      fitting = [...free].map((gpu) => judgeNow(wanted, gpu, nowMs)).filter(({ rejection }) => rejection === null)
      fittingOf.set(group, fitting)
      steps += free.size
    }
    steps += fitting.length
    const left = fitting.filter(({ gpu }) => free.has(gpu))
    const gpu = chooseBest(left, look.random()) ?? chooseAgain(look, queued)
    if (wanted.failedGpus.size > 0) steps += look.all().length
    if (!gpu) {
      hopeless.add(group)
      continue
    }
    free.delete(gpu)
    yield { queued, gpu }
    turns.taken()
  }
}

/** Among those that have failed or refused the task, once their time has come, where no other GPU could run it. */
function chooseAgain({ free, all, nowMs, random }: Look, { wanted }: QueuedTask): MarketGpu | null {
  if (wanted.failedGpus.size === 0) return null
  const others = all().some((gpu) => !wanted.failedGpus.has(gpu.id) && !judgeFit(wanted, gpu, nowMs()).rejection)
  if (others) return null
  const again = { ...wanted, retryFailed: true }
  return chooseBest(
    [...free].map((gpu) => judgeNow(again, gpu, nowMs())),
    random(),
  )
}
