import { formatOrb, type Micros, type Model, type Requirements, type TaskType } from '@orbyte/protocol'
import { standingFactor } from '../gpus/gpu-standing.ts'
import { gpuStatus } from '../gpus/gpu-status.ts'
import { gpuCanRunModel } from '../models/model-fit.ts'
import type { MarketGpu } from '../gpus/gpu-registry.ts'

/**
 * Where a match is decided. A chain of rankers looks at each GPU: each gives a score, or a rejection that says why, and
 * whether that could change by itself. A GPU that no ranker rejects fits; its scores add up; the highest is best.
 */
export type Wanted = {
  taskType: TaskType
  requirements: Requirements
  /** The catalogue model that the task needs; or the name of a model that only some owners' servers have; or none. */
  model: Model | null
  modelName: string | null
  /** Null: not settled yet (an estimate). */
  maxPriceMicrosPerHour: Micros | null
  /** GPUs that have failed or refused this task, and when (ms since 1970) they may be asked again. */
  failedGpus: ReadonlyMap<string, number>
  /** Whether they may be asked again at all: only where no other GPU fits. */
  retryFailed: boolean
}

type Asking = {
  readonly task_type: TaskType
  readonly requirements: Requirements
  /** Its name. */
  readonly model: string | null
  readonly max_price_per_hour: Micros | null
}

/** What a task that asks for this wants. `model`: the catalogue's entry of that name, if it has one. */
export function wantedOf(asking: Asking, model: Model | null, failedGpus: Wanted['failedGpus'] = new Map()): Wanted {
  return {
    taskType: asking.task_type,
    requirements: asking.requirements,
    model,
    modelName: asking.model,
    maxPriceMicrosPerHour: asking.max_price_per_hour,
    failedGpus,
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

type Ranker = (wanted: Wanted, gpu: MarketGpu, nowMs: number) => number | Rejection

const never = (code: RejectionCode, message: string): Rejection => ({ code, message, retryable: false })
const later = (code: RejectionCode, message: string): Rejection => ({ code, message, retryable: true })

/** What the GPU is: the first rejection here means that it can never run the task as it was asked for. */
const fitRankers: readonly Ranker[] = [
  ({ requirements }, gpu) =>
    requirements.gpu_id !== undefined && requirements.gpu_id !== gpu.id
      ? never('other_gpu_requested', 'another GPU was asked for')
      : 0,
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
  ({ requirements, model }, gpu) => {
    const neededGb = Math.max(requirements.min_vram_gb ?? 0, model?.vram_gb ?? 0)
    return neededGb > gpu.vramGb ? never('vram_too_small', `it has less than ${neededGb} GiB of VRAM`) : 0
  },
  ({ requirements }, gpu) =>
    requirements.region !== undefined && requirements.region.toLowerCase() !== gpu.region?.toLowerCase()
      ? never('region_differs', `it is not in ${requirements.region}`)
      : 0,
  (_wanted, gpu) => {
    const status = gpuStatus(gpu)
    if (status === 'offline') return later('gpu_offline', 'no agent that answers backs it')
    return status === 'maintenance' ? later('gpu_in_maintenance', 'its owner takes no new tasks now') : 0
  },
  ({ taskType }, gpu) =>
    gpu.taskTypes.includes(taskType) ? 0 : never('task_type_not_offered', `its agent does not run ${taskType}`),
  ({ model, modelName }, gpu) => {
    if (modelName === null || gpu.ownModels.includes(modelName)) return 0
    const can = model !== null && gpuCanRunModel(gpu, model)
    return can ? 0 : never('model_not_available', `it cannot run the model ${modelName}`)
  },
  ({ maxPriceMicrosPerHour: max }, gpu) =>
    max !== null && gpu.priceMicrosPerHour > max
      ? never('price_above_maximum', `it costs more than ${formatOrb(max)} ORB an hour`)
      : 0,
  (_wanted, gpu) =>
    gpu.priceMicrosPerHour < (gpu.limits.min_price_per_hour ?? 0)
      ? later('below_owners_minimum_price', 'its price is below its owner’s minimum')
      : 0,
]

/** What the GPU does now: a rejection here passes by itself. */
const freeRankers: readonly Ranker[] = [
  (_wanted, gpu) => (gpu.attemptId !== null ? later('gpu_in_use', 'it is running another task') : 0),
  (_wanted, gpu, nowMs) =>
    gpu.coolDownUntilMs > nowMs ? later('cooling_down', 'it has failed lately and is cooling down') : 0,
  ({ failedGpus, retryFailed }, gpu, nowMs) => {
    const againAtMs = failedGpus.get(gpu.id)
    const passedOver = againAtMs !== undefined && !(retryFailed && againAtMs <= nowMs)
    return passedOver ? later('failed_this_task', 'it has failed or refused this task before') : 0
  },
]

/**
 * Expected price, as a score: what an hour costs, worse for GPUs with a bad record (gpu-standing.ts), better where the model is
 * at hand and no time goes into fetching and loading it.
 */
const scoreRanker: Ranker = ({ modelName }, gpu) => {
  const warmth =
    modelName === null || gpu.loadedModels.includes(modelName) ? 1 : gpu.cachedModels.includes(modelName) ? 1.05 : 1.2
  return -(gpu.priceMicrosPerHour + 1) * standingFactor(gpu) * warmth
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

function judge(rankers: readonly Ranker[], at: { wanted: Wanted; gpu: MarketGpu; nowMs: number }): Verdict {
  let score = 0
  for (const rank of rankers) {
    const result = rank(at.wanted, at.gpu, at.nowMs)
    if (typeof result !== 'number') return { gpu: at.gpu, score: 0, rejection: result }
    score += result
  }
  return { gpu: at.gpu, score, rejection: null }
}

/** Offers that are no worse than this share of the best score count as equally good. */
export const nearEqualShare = 0.02

/**
 * The best of those that fit, at random among near-equals so that new providers get a first task. `random` is from 0 to 1.
 * No fitting GPU is better than the chosen one by more than `nearEqualShare`.
 */
export function chooseBest(verdicts: readonly Verdict[], random: number): MarketGpu | null {
  const fitting = verdicts.filter(({ rejection }) => rejection === null)
  if (fitting.length === 0) return null
  const best = Math.max(...fitting.map(({ score }) => score))
  const near = fitting.filter(({ score }) => score >= best - Math.abs(best) * nearEqualShare)
  return near[Math.min(near.length - 1, Math.floor(random * near.length))]!.gpu
}

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
