import { type Micros, type Model, type Requirements, type TaskType, wholeMilli } from '@orbyte/protocol'
import type { MarketGpu } from '../gpus/gpu-registry.ts'
import { costFactor, hourCost, type Timings, warmthOn } from './expected-cost.ts'
import { fitRankers, freeRankers, type Ranker, type RejectionCode } from './rankers.ts'

/*
 * Where a match is decided. A chain of rankers looks at a GPU (rankers.ts): each lets it through, or rejects it and says why, and
 * whether that could change by itself. One that nobody rejects fits, and its score is what the task is expected to cost there
 * (expected-cost.ts).
 */

export type Wanted = {
  /** The same for whoever wants the same of a GPU, whatever they pay and whichever GPU of these they name. */
  key: string
  taskType: TaskType
  requirements: Requirements
  /** Whole GPUs, all on one machine. */
  gpus: number
  /** Part of one GPU is enough. */
  part: Part | null
  /** The catalogue model that the task needs; or the name of a model that only some owners' servers have; or none. */
  model: Model | null
  modelName: string | null
  /** Null: not settled yet (an estimate). */
  maxPriceMicrosPerHour: Micros | null
  timings: Timings | null
  /** GPUs that have failed or refused this task, and when (ms since 1970) they may be asked again. */
  failedGpus: ReadonlyMap<string, number>
  /** Whether they may be asked again at all: only where no other GPU fits. */
  retryFailed: boolean
}

/** A part of a GPU: a share of its time, and so much of its VRAM. Whichever is the larger share of the GPU is what it takes. */
export type Part = { readonly milli: number; readonly vramGb: number }

type Asking = {
  readonly task_type: TaskType
  readonly requirements: Requirements
  /** Its name. */
  readonly model: string | null
  readonly max_price_per_hour: Micros | null
}

/** What a task that asks for this wants. `model`: the catalogue's entry of that name, if it has one. */
export function wantedOf(
  asking: Asking,
  model: Model | null,
  known: { failedGpus?: Wanted['failedGpus']; timings?: Timings } = {},
): Wanted {
  const { gpu_id: _any, ...requirements } = asking.requirements
  return {
    key: JSON.stringify([asking.task_type, requirements, asking.model, model?.vram_gb, model?.format]),
    taskType: asking.task_type,
    requirements: asking.requirements,
    gpus: asking.requirements.gpu_count ?? 1,
    part: partOf(asking.requirements),
    model,
    modelName: asking.model,
    maxPriceMicrosPerHour: asking.max_price_per_hour,
    timings: known.timings ?? null,
    failedGpus: known.failedGpus ?? new Map(),
    retryFailed: false,
  }
}

/** The same, asking for something else. */
export function askingFor(wanted: Wanted, requirements: Requirements, maxPriceMicrosPerHour: Micros | null): Wanted {
  const { gpu_count: gpus = 1 } = requirements
  return { ...wanted, requirements, gpus, part: partOf(requirements), maxPriceMicrosPerHour }
}

/** Null: nothing less than a whole GPU was asked for. */
function partOf({ gpu_milli: milli = wholeMilli, min_vram_gb: vramGb = 0 }: Requirements): Part | null {
  return milli === wholeMilli ? null : { milli, vramGb }
}

/** The same for tasks that ask for the same, for as long. */
export function keyOf(task: Asking & { readonly max_duration_ms: number }): string {
  const { task_type, requirements, model, max_price_per_hour, max_duration_ms } = task
  return JSON.stringify([task_type, requirements, model, max_price_per_hour, max_duration_ms])
}

export type Rejection = { readonly code: RejectionCode; readonly message: string; readonly retryable: boolean }
/** `score`: more is better. */
export type Verdict = { readonly gpu: MarketGpu; readonly score: number; readonly rejection: Rejection | null }

/** Whether the GPU could run the task, free or busy. */
export function judgeFit(wanted: Wanted, gpu: MarketGpu, nowMs: number): Verdict {
  return judge(fitRankers, { wanted, gpu, nowMs })
}

/** Whether the GPU could take the task now. */
export function judgeNow(wanted: Wanted, gpu: MarketGpu, nowMs: number): Verdict {
  return judge(nowRankers, { wanted, gpu, nowMs })
}

const nowRankers = [...fitRankers, ...freeRankers]

/** All that keeps the GPU from running the task, free or busy; nothing where it fits. */
export function rejectionsOf(wanted: Wanted, gpu: MarketGpu, nowMs: number): Rejection[] {
  return fitRankers
    .filter((ranker) => ranker.concerns(wanted) && ranker.rejects(wanted, gpu, nowMs))
    .map((ranker) => rejectionBy(ranker, wanted, gpu))
}

/** Why a GPU that fits cannot take the task now. */
export function judgeFree(wanted: Wanted, gpu: MarketGpu, nowMs: number): Rejection | null {
  const ranker = freeRankers.find(({ rejects }) => rejects(wanted, gpu, nowMs))
  return ranker ? rejectionBy(ranker, wanted, gpu) : null
}

/** Whether GPUs of a profile can run the task, whatever they cost and whether they are there. */
export function canRun(wanted: Wanted, sample: MarketGpu): boolean {
  return !fitRankers.some(
    (ranker) => ranker.isOfProfile && ranker.concerns(wanted) && ranker.rejects(wanted, sample, 0),
  )
}

type Judged = { readonly wanted: Wanted; readonly gpu: MarketGpu; readonly nowMs: number }

function judge(rankers: readonly Ranker[], { wanted, gpu, nowMs }: Judged): Verdict {
  for (const ranker of rankers)
    if (ranker.concerns(wanted) && ranker.rejects(wanted, gpu, nowMs))
      return { gpu, score: 0, rejection: rejectionBy(ranker, wanted, gpu) }
  return { gpu, score: -hourCost(gpu) * costFactor(wanted, gpu, warmthOn(wanted, gpu)), rejection: null }
}

export function rejectionBy({ code, retryable, says }: Ranker, wanted: Wanted, gpu: MarketGpu): Rejection {
  return { code, message: says(wanted, gpu), retryable }
}

/** Offers that cost more than the best by no more than this share count as equally good. */
export const nearEqualShare = 0.02

export type RejectionCount = Rejection & { gpus: number }

/** Why GPUs do not fit: each reason once, with how many, most frequent first. `gpus`: how many have it; 1 where it is not said. */
export function countRejections(rejections: Iterable<(Rejection & { gpus?: number }) | null>): RejectionCount[] {
  const counts = new Map<string, RejectionCount>()
  for (const rejection of rejections) {
    if (!rejection) continue
    const { code, gpus = 1 } = rejection
    const known = counts.get(code)
    if (known) known.gpus += gpus
    else counts.set(code, { ...rejection, gpus })
  }
  return [...counts.values()].sort((a, b) => b.gpus - a.gpus || (a.code < b.code ? -1 : 1))
}
