import { formatOrb, type Micros, type Model, type Requirements, type TaskType } from '@orbyte/protocol'
import { standingFactor } from '../gpus/gpu-standing.ts'
import { gpuStatus } from '../gpus/gpu-status.ts'
import { gpuCanRunModel } from '../models/model-fit.ts'
import type { MarketGpu } from '../gpus/gpu-registry.ts'
import { wholeMilli } from './packing.ts'

/**
 * Where a match is decided. A chain of rankers looks at each GPU: each gives a score, or a rejection that says why, and
 * whether that could change by itself. A GPU that no ranker rejects fits; its scores add up; the highest is best.
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
    key: JSON.stringify([asking.task_type, requirements, asking.model, model?.vram_gb, model?.format, 1, null]),
    taskType: asking.task_type,
    requirements: asking.requirements,
    gpus: 1,
    part: null,
    model,
    modelName: asking.model,
    maxPriceMicrosPerHour: asking.max_price_per_hour,
    timings: known.timings ?? null,
    failedGpus: known.failedGpus ?? new Map(),
    retryFailed: false,
  }
}

/** The same for tasks that ask for the same. */
export function keyOf({ task_type, requirements, model, max_price_per_hour }: Asking): string {
  return JSON.stringify([task_type, requirements, model, max_price_per_hour])
}

export type RejectionCode =
  | 'other_gpu_requested'
  | 'kind_not_wanted'
  | 'task_type_not_offered'
  | 'model_not_available'
  | 'vram_too_small'
  | 'gpu_model_differs'
  | 'region_differs'
  | 'price_above_maximum'
  | 'below_owners_minimum_price'
  | 'gpu_offline'
  | 'gpu_in_maintenance'
  | 'gpu_in_use'
  | 'cooling_down'
  | 'failed_this_task'

export type Rejection = { readonly code: RejectionCode; readonly message: string; readonly retryable: boolean }
export type Verdict = { readonly gpu: MarketGpu; readonly score: number; readonly rejection: Rejection | null }

/** What a task of which that is wanted takes of the GPU, in thousandths. */
export function milliOn({ part }: Pick<Wanted, 'part'>, { vramGb }: Pick<MarketGpu, 'vramGb'>): number {
  return part === null ? wholeMilli : Math.max(1, part.milli, Math.ceil((wholeMilli * part.vramGb) / vramGb))
}

type Ranker = (wanted: Wanted, gpu: MarketGpu, nowMs: number) => number | Rejection

const never = (code: RejectionCode, message: string): Rejection => ({ code, message, retryable: false })
const later = (code: RejectionCode, message: string): Rejection => ({ code, message, retryable: true })

/** What the GPU is. */
const hardwareRankers: readonly Ranker[] = [
  ({ requirements }, gpu) =>
    requirements.kinds && !requirements.kinds.includes(gpu.kind)
      ? never(
          'kind_not_wanted',
          `it is ${gpu.kind === 'cpu' ? 'a CPU' : gpu.kind === 'emulated' ? 'emulated' : 'a GPU'}, which was not asked for`,
        )
      : 0,
  ({ requirements }, gpu) =>
    requirements.gpu_model !== undefined && !gpu.model.toLowerCase().includes(requirements.gpu_model.toLowerCase())
      ? never('gpu_model_differs', `it is not a ${requirements.gpu_model}`)
      : 0,
  ({ requirements, model, part }, gpu) => {
    const neededGb = Math.max(requirements.min_vram_gb ?? 0, model?.vram_gb ?? 0, part?.vramGb ?? 0)
    return neededGb > gpu.vramGb ? never('vram_too_small', `it has less than ${neededGb} GiB of VRAM`) : 0
  },
  ({ requirements }, gpu) =>
    requirements.region !== undefined && requirements.region.toLowerCase() !== gpu.region?.toLowerCase()
      ? never('region_differs', `it is not in ${requirements.region}`)
      : 0,
]

/** What its agent can run and its owner allows. */
const softwareRankers: readonly Ranker[] = [
  ({ taskType }, gpu) =>
    gpu.taskTypes.includes(taskType) ? 0 : never('task_type_not_offered', `its agent does not run ${taskType}`),
  ({ model, modelName }, gpu) => {
    if (modelName === null || gpu.ownModels.includes(modelName)) return 0
    const can = model !== null && gpuCanRunModel(gpu, model)
    return can ? 0 : never('model_not_available', `it cannot run the model ${modelName}`)
  },
]

/** The first rejection here means that the GPU can never run the task as it was asked for. */
const fitRankers: readonly Ranker[] = [
  ({ requirements }, gpu) =>
    requirements.gpu_id !== undefined && requirements.gpu_id !== gpu.id
      ? never('other_gpu_requested', 'another GPU was asked for')
      : 0,
  ...hardwareRankers,
  (_wanted, gpu) => {
    const status = gpuStatus(gpu)
    if (status === 'offline') return later('gpu_offline', 'no agent that answers backs it')
    return status === 'maintenance' ? later('gpu_in_maintenance', 'its owner takes no new tasks now') : 0
  },
  ...softwareRankers,
  (wanted, gpu) => {
    const { maxPriceMicrosPerHour: max } = wanted
    const isDearer = max !== null && priceOn(wanted, gpu) > max
    return isDearer ? never('price_above_maximum', `it costs more than ${formatOrb(max)} ORB an hour`) : 0
  },
  (_wanted, gpu) =>
    isBelowOwnMinimum(gpu) ? later('below_owners_minimum_price', 'its price is below its owner’s minimum') : 0,
]

/** What the GPU does now: a rejection here passes by itself. */
const freeRankers: readonly Ranker[] = [
  (_wanted, gpu) => (gpu.attemptId !== null ? later('gpu_in_use', 'it is running another task') : 0),
  (_wanted, gpu, nowMs) =>
    gpu.coolDownUntilMs > nowMs ? later('cooling_down', 'it has failed lately and is cooling down') : 0,
  (wanted, gpu, nowMs) =>
    isPassedOver(wanted, gpu.id, nowMs) ? later('failed_this_task', 'it has failed or refused this task before') : 0,
]

/** What an hour of that which is wanted costs on this GPU. */
export const priceOn = (wanted: Pick<Wanted, 'part'>, gpu: MarketGpu): number =>
  (gpu.priceMicrosPerHour * milliOn(wanted, gpu)) / wholeMilli

export const isBelowOwnMinimum = ({ priceMicrosPerHour, limits }: MarketGpu): boolean =>
  priceMicrosPerHour < (limits.min_price_per_hour ?? 0)

/** It has failed or refused the task, and cannot be asked again yet, or need not. */
export function isPassedOver({ failedGpus, retryFailed }: Wanted, gpuId: string, nowMs: number): boolean {
  const againAtMs = failedGpus.get(gpuId)
  return againAtMs !== undefined && !(retryFailed && againAtMs <= nowMs)
}

/**
 * What an hour of it counts: its price, and more for one with a bad record. Never less than its price.
 */
export function hourCost(gpu: MarketGpu): number {
  return (gpu.priceMicrosPerHour + 1) * standingFactor(gpu)
}

/** Whether it has the model in memory, on its disk, or has to fetch it. */
export type Warmth = 'loaded' | 'cached' | 'absent'

export function warmthOn({ modelName, gpus }: Wanted, { loadedModels, cachedModels }: MarketGpu): Warmth {
  if (modelName === null) return 'loaded'
  // A model that is spread over several GPUs is loaded anew.
  if (gpus > 1) return 'absent'
  if (loadedModels.includes(modelName)) return 'loaded'
  return cachedModels.includes(modelName) ? 'cached' : 'absent'
}

/** How long tasks take, as measured on GPUs of the same make; null: not measured. */
export type Timings = {
  runMs(wanted: Wanted, gpu: MarketGpu): number | null
  /** From accepting a task until it is ready. */
  loadMs(wanted: Wanted, gpu: MarketGpu, warmth: Warmth): number | null
}

/** Where nothing was measured. */
export const usualRunMs = 60_000
const usualLoadMs = { loaded: 0, cached: 3_000, absent: 12_000 }

/** How long the task is expected to take up the GPU. It gets ready at nobody's cost, but others wait meanwhile. */
export function takenMs(wanted: Wanted, gpu: MarketGpu, warmth: Warmth): number {
  const { timings } = wanted
  const runMs = timings?.runMs(wanted, gpu) ?? usualRunMs
  return runMs + (timings?.loadMs(wanted, gpu, warmth) ?? usualLoadMs[warmth])
}

/**
 * The expected cost, as a score: price, reliability, speed and warmth in one. A fast dear GPU can beat a slow cheap one, and one
 * that has the model one that would have to fetch it.
 */
const scoreRanker: Ranker = (wanted, gpu) => {
  const hours = takenMs(wanted, gpu, warmthOn(wanted, gpu)) / 3_600_000
  return (-hourCost(gpu) * hours * milliOn(wanted, gpu)) / wholeMilli
}

/** Whether the GPU could run the task, free or busy. */
export function judgeFit(wanted: Wanted, gpu: MarketGpu, nowMs: number): Verdict {
  return judge([...fitRankers, scoreRanker], { wanted, gpu, nowMs })
}

/** All that keeps the GPU from running the task, free or busy; nothing where it fits. */
export function rejectionsOf(wanted: Wanted, gpu: MarketGpu, nowMs: number): Rejection[] {
  return fitRankers.map((rank) => rank(wanted, gpu, nowMs)).filter((result) => typeof result !== 'number')
}

/** Whether the GPU could take the task now. */
export function judgeNow(wanted: Wanted, gpu: MarketGpu, nowMs: number): Verdict {
  return judge([...fitRankers, ...freeRankers, scoreRanker], { wanted, gpu, nowMs })
}

/** Why no GPU like this one (see gpu-profile.ts) can run the task, whatever it costs and whether it is there or not. */
export function judgeProfile(wanted: Wanted, sample: MarketGpu): Rejection | null {
  return judge([...hardwareRankers, ...softwareRankers], { wanted, gpu: sample, nowMs: 0 }).rejection
}

function judge(rankers: readonly Ranker[], at: { wanted: Wanted; gpu: MarketGpu; nowMs: number }): Verdict {
  let score = 0
  for (const rank of rankers) {
    const result = rank(at.wanted, at.gpu, at.nowMs)
    if (typeof result !== 'number') return { gpu: at.gpu, score: 0, rejection: result }
    score += result
  }
  return { gpu: at.gpu, score, rejection: null }
}

/** Offers that cost more than the best by no more than this share count as equally good. */
export const nearEqualShare = 0.02

export type RejectionCount = Rejection & { gpus: number }

/** Why GPUs do not fit: each reason once, with how many, most frequent first. */
export function countRejections(verdicts: readonly Verdict[]): RejectionCount[] {
  const counts = new Map<string, RejectionCount>()
  for (const { rejection } of verdicts) {
    if (!rejection) continue
    const known = counts.get(rejection.code)
    if (known) known.gpus++
    else counts.set(rejection.code, { ...rejection, gpus: 1 })
  }
  return [...counts.values()].sort((a, b) => b.gpus - a.gpus || (a.code < b.code ? -1 : 1))
}
