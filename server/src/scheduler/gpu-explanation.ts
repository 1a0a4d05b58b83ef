import { formatOrb, type Micros, micros } from '@orbyte/protocol'
import type { MarketGpu } from '../gpus/gpu-registry.ts'
import { normaliseGpuName } from '../gpus/gpu-names.ts'
import { gpuStatus, isOnTrial } from '../gpus/gpu-status.ts'
import { rejectionsOf } from './matching.ts'
import type { RejectionCode } from './rankers.ts'
import { type Demand, median } from './recent-demand.ts'

type Surroundings = {
  readonly all: readonly MarketGpu[]
  readonly demands: readonly Demand[]
  readonly nowMs: number
  /** Room is kept on it for a task that waits. */
  readonly kept: Momentary | null
}
type Momentary = { code: string; message: string }
type Lost = { code: string; message: string; tasks: number }

/** What many tasks have in common that it did not get. What is only of the moment is said of the GPU as it is now. */
const reasonOf: Partial<Record<RejectionCode, string>> = {
  other_gpu_requested: 'they ask for a certain other GPU',
  kind_not_wanted: 'they ask for another kind of device',
  gpu_model_differs: 'they ask for other hardware',
  vram_too_small: 'they need more VRAM',
  region_differs: 'they ask for another region',
  cpu_cores_too_few: 'they need more processor cores',
  ram_too_small: 'they need more memory in its machine',
  storage_too_small: 'they need more free disk',
  task_type_not_offered: 'its agent does not run that type of task, or your limits forbid it',
  model_not_available: 'it cannot run the model that they need',
  sharing_not_allowed: 'they want a share of a GPU, and yours is offered only as a whole',
  share_not_possible: 'they want a share of a GPU, and its agent cannot run that type of task on one',
  several_not_possible: 'they want several GPUs, and its agent cannot run that type of task on several',
  gpus_too_few: 'they want more GPUs of one machine than its machine has',
  price_above_maximum: 'they pay less than it costs',
  below_owners_minimum_price: 'its price is below the minimum that its agent was given',
}
const othersWereBetter = 'another GPU was cheaper, had the model at hand, or fails less'

/**
 * Why a GPU does or does not earn: the tasks that got a GPU lately, judged as matching would judge them for this GPU at its price
 * and with its limits of now, and its price beside those of GPUs of its kind.
 */
export function explainGpu(gpu: MarketGpu, { all, demands, nowMs, kept }: Surroundings) {
  const lost = new Map<string, Lost>()
  const lose = (code: string, message: string) => {
    const known = lost.get(code)
    if (known) known.tasks++
    else lost.set(code, { code, message, tasks: 1 })
  }
  const alike = all.filter((other) => isBeside(gpu, other)).length
  const wonByOthers: Demand[] = []
  let won = 0
  for (const demand of demands) {
    const codes = rejectionsOf(demand.wanted, gpu, nowMs).flatMap(({ code }) => (code in reasonOf ? [code] : []))
    if (demand.wanted.gpus > alike) codes.push('gpus_too_few')
    if (demand.gpuIds.includes(gpu.id)) won++
    else if (codes.length > 0) for (const code of codes) lose(code, reasonOf[code]!)
    else {
      wonByOthers.push(demand)
      lose('others_were_better', othersWereBetter)
    }
  }
  const fitted = won + wonByOthers.length
  const reasons = [...lost.values()].sort((a, b) => b.tasks - a.tasks)
  const price = comparePrice(gpu, all)
  const taken = wonByOthers.map(({ priceMicrosPerHour }) => priceMicrosPerHour)
  return {
    gpu_id: gpu.id,
    status: gpuStatus(gpu),
    ...summary(gpu, { nowMs, kept, seen: demands.length, won, fitted, reasons }),
    considered: demands.length,
    since: demands.length === 0 ? null : new Date(Math.min(...demands.map(({ atMs }) => atMs))).toISOString(),
    fitted,
    won,
    lost: reasons,
    others_price_per_hour: taken.length === 0 ? null : micros(median(taken)),
    price,
  }
}

/** A task that wants several GPUs could have both, or it is the same. */
function isBeside(gpu: MarketGpu, other: MarketGpu): boolean {
  return other.id === gpu.id || (gpu.agentId !== null && other.agentId === gpu.agentId && other.model === gpu.model)
}

type Found = {
  nowMs: number
  kept: Momentary | null
  seen: number
  won: number
  fitted: number
  reasons: readonly Lost[]
}

/** The one sentence that matters most, and what to do. */
function summary(gpu: MarketGpu, { nowMs, kept, seen, won, fitted, reasons }: Found): Momentary {
  const momentary = rejectionOfTheMoment(gpu, nowMs) ?? kept
  if (momentary) return momentary
  if (seen === 0)
    return {
      code: 'no_demand',
      message: 'No task has been matched since the market was started: there is no demand to judge by.',
    }
  if (won > 0) return { code: 'earns', message: `It got ${won} of the last ${seen} tasks, and would fit ${fitted}.` }
  if (fitted > 0)
    return {
      code: 'others_were_better',
      message: `It would fit ${fitted} of the last ${seen} tasks, and others got them all. Lower its price, or keep the models that are asked for on its disk.`,
    }
  const [first] = reasons
  return {
    code: first!.code,
    message: `It fits none of the last ${seen} tasks; for ${first!.tasks}: ${first!.message}.`,
  }
}

function rejectionOfTheMoment(gpu: MarketGpu, nowMs: number): Momentary | null {
  const status = gpuStatus(gpu)
  if (status === 'offline')
    return {
      code: 'gpu_offline',
      message: 'No agent that answers backs it. Start the agent on its machine: orbyte agent start',
    }
  if (status === 'maintenance')
    return { code: 'gpu_in_maintenance', message: 'It is in maintenance or paused, so it takes no new tasks.' }
  if (gpu.coolDownUntilMs > nowMs)
    return {
      code: 'cooling_down',
      message: `It has failed ${gpu.failuresInARow} times in a row and is asked again in ${Math.ceil((gpu.coolDownUntilMs - nowMs) / 1_000)} s. See what failed: orbyte gpus attempts ${gpu.id}`,
    }
  if (isOnTrial(gpu))
    return {
      code: 'on_trial',
      message: `It has failed ${gpu.failuresInARow} times in a row. Until it completes a task it is asked only where no other GPU is free. See what failed: orbyte gpus attempts ${gpu.id}`,
    }
  if (gpu.priceMicrosPerHour < (gpu.limits.min_price_per_hour ?? 0))
    return {
      code: 'below_owners_minimum_price',
      message: `Its price is below the minimum that its agent was given, so it takes no task. Raise it: orbyte gpus set ${gpu.id} --price ${formatOrb(micros(gpu.limits.min_price_per_hour!))}`,
    }
  return null
}

/** Beside the GPUs of its kind that are connected: the same hardware, or, where it is alone, of about its VRAM. */
function comparePrice(gpu: MarketGpu, all: readonly MarketGpu[]) {
  const others = all.filter((other) => other.id !== gpu.id && other.kind === gpu.kind && gpuStatus(other) !== 'offline')
  const same = others.filter(({ model }) => normaliseGpuName(model) === normaliseGpuName(gpu.model))
  const alike = others.filter(({ vramGb }) => vramGb >= gpu.vramGb * 0.75 && vramGb <= gpu.vramGb * 1.33)
  const peers = (same.length > 0 ? same : alike).map(({ priceMicrosPerHour }) => priceMicrosPerHour)
  const amount = (value: number): Micros => micros(value)
  return {
    price_per_hour: gpu.priceMicrosPerHour,
    compared_with: same.length > 0 ? `other ${gpu.model}` : 'GPUs with about as much VRAM',
    gpus: peers.length,
    cheaper: peers.filter((price) => price < gpu.priceMicrosPerHour).length,
    lowest: peers.length === 0 ? null : amount(Math.min(...peers)),
    median: peers.length === 0 ? null : amount(median(peers)),
    highest: peers.length === 0 ? null : amount(Math.max(...peers)),
  }
}
