import { formatOrb, type ReportedDevice, wholeMilli } from '@orbyte/protocol'
import { isSoldAs } from '../gpus/gpu-hardware.ts'
import { gpuStatus, takesTasks } from '../gpus/gpu-status.ts'
import type { MarketGpu } from '../gpus/gpu-registry.ts'
import { gpuCanRunModel } from '../models/model-fit.ts'
import { milliOn, priceOn } from './expected-cost.ts'
import type { Wanted } from './matching.ts'

export type RejectionCode =
  | 'other_gpu_requested'
  | 'kind_not_wanted'
  | 'task_type_not_offered'
  | 'model_not_available'
  | 'sharing_not_allowed'
  | 'share_not_possible'
  | 'several_not_possible'
  | 'gpus_too_few'
  | 'vram_too_small'
  | 'gpu_model_differs'
  | 'region_differs'
  | 'cpu_cores_too_few'
  | 'ram_too_small'
  | 'storage_too_small'
  | 'price_above_maximum'
  | 'below_owners_minimum_price'
  | 'gpu_offline'
  | 'gpu_in_maintenance'
  | 'gpu_in_use'
  | 'cooling_down'
  | 'failed_this_task'
  // Of no ranker: kept-rooms.ts knows.
  | 'kept_for_another_task'

/** A ranker that lets a GPU through or rejects it. */
export type Ranker = {
  readonly code: RejectionCode
  /** What it rejects may pass by itself. */
  readonly retryable: boolean
  /** It says the same of all GPUs of a profile (gpu-profile.ts). */
  readonly isOfProfile: boolean
  /** False: it rejects nothing, whichever GPU. */
  concerns(wanted: Wanted): boolean
  rejects(wanted: Wanted, gpu: MarketGpu, nowMs: number): boolean
  /** Of one that it rejects. */
  says(wanted: Wanted, gpu: MarketGpu): string
}

const all = () => true
const ofProfile = { retryable: false, isOfProfile: true }
const ofMachine = { retryable: false, isOfProfile: false }
const ofMoment = { retryable: true, isOfProfile: false, concerns: all }

/** A GPU that one of these rejects cannot run the task as it was asked for, free or busy. The first that rejects it is the reason. */
export const fitRankers: readonly Ranker[] = [
  {
    code: 'other_gpu_requested',
    ...ofMachine,
    concerns: ({ requirements }) => requirements.gpu_id !== undefined,
    rejects: ({ requirements }, { id }) => requirements.gpu_id !== id,
    says: () => 'another GPU was asked for',
  },
  {
    code: 'kind_not_wanted',
    ...ofProfile,
    concerns: ({ requirements }) => requirements.kinds !== undefined,
    rejects: ({ requirements }, { kind }) => !requirements.kinds!.includes(kind),
    says: (_wanted, { kind }) =>
      `it is ${kind === 'cpu' ? 'a CPU' : kind === 'emulated' ? 'emulated' : 'a GPU'}, which was not asked for`,
  },
  {
    code: 'gpu_model_differs',
    ...ofProfile,
    concerns: ({ requirements }) => requirements.gpu_model !== undefined,
    rejects: ({ requirements }, { model }) => !model.toLowerCase().includes(requirements.gpu_model!.toLowerCase()),
    says: ({ requirements }) => `it is not a ${requirements.gpu_model}`,
  },
  {
    code: 'vram_too_small',
    ...ofProfile,
    concerns: (wanted) => sizeGbFor(wanted) > 0 || neededGbFor(wanted) > 0,
    rejects: (wanted, { vramGb, usableVramGb }) =>
      neededGbFor(wanted) > usableVramGb || !isSoldAs(vramGb, sizeGbFor(wanted)),
    says: (wanted) =>
      sizeGbFor(wanted) >= neededGbFor(wanted)
        ? `it has less than ${sizeGbFor(wanted)} GB of VRAM`
        : `it has less than ${neededGbFor(wanted)} GiB of VRAM for tasks`,
  },
  {
    code: 'region_differs',
    ...ofProfile,
    concerns: ({ requirements }) => requirements.region !== undefined,
    rejects: ({ requirements }, { region }) => requirements.region!.toLowerCase() !== region?.toLowerCase(),
    says: ({ requirements }) => `it is not in ${requirements.region}`,
  },
  // What its machine has is not of the profile, because hardly two have as much free on their disks.
  {
    code: 'cpu_cores_too_few',
    ...ofMachine,
    concerns: ({ requirements }) => requirements.min_cpu_cores !== undefined,
    rejects: ({ requirements }, { specs }) => (specs?.cpu_cores ?? 0) < requirements.min_cpu_cores!,
    says: ({ requirements }) => `its machine has fewer than ${requirements.min_cpu_cores} processor cores`,
  },
  {
    code: 'ram_too_small',
    ...ofMachine,
    concerns: ({ requirements }) => requirements.min_ram_gb !== undefined,
    rejects: ({ requirements }, { specs }) => (specs?.ram_gb ?? 0) < requirements.min_ram_gb!,
    says: ({ requirements }) => `its machine has less than ${requirements.min_ram_gb} GiB of memory`,
  },
  {
    code: 'storage_too_small',
    retryable: true,
    isOfProfile: false,
    concerns: ({ requirements }) => requirements.min_storage_gb !== undefined,
    rejects: ({ requirements }, { specs }) => (specs?.storage_gb ?? 0) < requirements.min_storage_gb!,
    says: ({ requirements }) =>
      `its machine has less than ${requirements.min_storage_gb} GiB free on its disk, or does not say`,
  },
  {
    code: 'gpu_offline',
    ...ofMoment,
    rejects: (_wanted, gpu) => gpuStatus(gpu) === 'offline',
    says: () => 'no agent that answers backs it',
  },
  {
    code: 'gpu_in_maintenance',
    ...ofMoment,
    rejects: (_wanted, gpu) => gpuStatus(gpu) === 'maintenance',
    says: () => 'its owner takes no new tasks now',
  },
  {
    code: 'task_type_not_offered',
    ...ofProfile,
    concerns: all,
    rejects: ({ taskType }, { taskTypes }) => !taskTypes.includes(taskType),
    says: ({ taskType }) => `its agent does not run ${taskType}`,
  },
  {
    code: 'model_not_available',
    ...ofProfile,
    concerns: ({ modelName }) => modelName !== null,
    rejects: ({ model, modelName }, gpu) =>
      !gpu.ownModels.includes(modelName!) && (model === null || !gpuCanRunModel(gpu, model)),
    says: ({ modelName }) => `it cannot run the model ${modelName}`,
  },
  {
    code: 'sharing_not_allowed',
    ...ofMachine,
    concerns: ({ part }) => part !== null,
    rejects: (_wanted, { sharing }) => !sharing,
    says: () => 'its owner offers it only as a whole',
  },
  {
    code: 'share_not_possible',
    ...ofProfile,
    concerns: ({ part }) => part !== null,
    rejects: (wanted, { shares }) => !canDo(wanted, shares),
    says: ({ taskType }) => `its agent cannot run ${taskType} on a share of a GPU`,
  },
  {
    code: 'several_not_possible',
    ...ofProfile,
    concerns: ({ gpus }) => gpus > 1,
    rejects: (wanted, { several }) => !canDo(wanted, several),
    says: ({ taskType }) => `its agent cannot run ${taskType} on several GPUs`,
  },
  {
    // Which GPUs there are beside it is seen by whoever looks at all of them (survey.ts).
    code: 'gpus_too_few',
    ...ofMachine,
    concerns: ({ gpus }) => gpus > 1,
    rejects: () => false,
    says: ({ gpus }) => `its machine has fewer than ${gpus} GPUs like it that would do`,
  },
  {
    code: 'price_above_maximum',
    ...ofMachine,
    concerns: ({ maxPriceMicrosPerHour }) => maxPriceMicrosPerHour !== null,
    rejects: (wanted, gpu) => priceOn(wanted, gpu) > wanted.maxPriceMicrosPerHour!,
    says: ({ maxPriceMicrosPerHour }) => `it costs more than ${formatOrb(maxPriceMicrosPerHour!)} ORB an hour`,
  },
  {
    code: 'below_owners_minimum_price',
    ...ofMoment,
    rejects: (_wanted, gpu) => isBelowOwnMinimum(gpu),
    says: () => 'its price is below its owner’s minimum',
  },
]

/** What the GPU does now: what these reject passes by itself. */
export const freeRankers: readonly Ranker[] = [
  {
    code: 'gpu_in_use',
    ...ofMoment,
    rejects: (wanted, gpu) => gpu.takenMilli + milliOn(wanted, gpu) > wholeMilli,
    says: ({ part }) => (part === null ? 'it is running another task' : 'other tasks have too much of it'),
  },
  {
    code: 'gpu_in_maintenance',
    ...ofMoment,
    rejects: (_wanted, gpu) => !takesTasks(gpu),
    says: () => 'its owner takes no new tasks now',
  },
  {
    code: 'cooling_down',
    ...ofMoment,
    rejects: (_wanted, { coolDownUntilMs }, nowMs) => coolDownUntilMs > nowMs,
    says: () => 'it has failed lately and is cooling down',
  },
  {
    code: 'failed_this_task',
    ...ofMoment,
    rejects: (wanted, { id }, nowMs) => isPassedOver(wanted, id, nowMs),
    says: () => 'it has failed or refused this task before',
  },
]

export const isBelowOwnMinimum = ({ priceMicrosPerHour, limits }: MarketGpu): boolean =>
  priceMicrosPerHour < (limits.min_price_per_hour ?? 0)

/** It has failed or refused the task, and cannot be asked again yet, or need not. */
export function isPassedOver({ failedGpus, retryFailed }: Wanted, gpuId: string, nowMs: number): boolean {
  const againAtMs = failedGpus.get(gpuId)
  return againAtMs !== undefined && !(retryFailed && againAtMs <= nowMs)
}

/** Whether its machine has what was asked for. */
export function isLargeEnough(wanted: Wanted, gpu: MarketGpu): boolean {
  const { min_cpu_cores, min_ram_gb, min_storage_gb } = wanted.requirements
  if (min_cpu_cores === undefined && min_ram_gb === undefined && min_storage_gb === undefined) return true
  return machineRankers.every(({ concerns, rejects }) => !concerns(wanted) || !rejects(wanted, gpu, 0))
}

const machineRankers = fitRankers.filter(({ code }) =>
  ['cpu_cores_too_few', 'ram_too_small', 'storage_too_small'].includes(code),
)

/** With a model of the catalogue: those of an owner's own server run as that server does. */
function canDo({ taskType, model, modelName }: Wanted, can: ReportedDevice['several']): boolean {
  if (!can.task_types.includes(taskType)) return false
  return model === null ? modelName === null : can.model_formats.includes(model.format)
}

/** GB of a whole GPU, as it is sold. */
function sizeGbFor({ requirements, part }: Wanted): number {
  return part === null ? (requirements.min_vram_gb ?? 0) : 0
}

/** GiB that the task will use. */
function neededGbFor({ model, part }: Wanted): number {
  return Math.max(model?.vram_gb ?? 0, part?.vramGb ?? 0)
}
