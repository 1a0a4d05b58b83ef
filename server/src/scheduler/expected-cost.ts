import { type Micros, priceOfShare, wholeMilli } from '@orbyte/protocol'
import type { MarketGpu } from '../gpus/gpu-registry.ts'
import { standingFactor } from '../gpus/gpu-standing.ts'
import type { Wanted } from './matching.ts'

/*
 * What a task is expected to cost on a GPU is what an hour of the GPU counts (`hourCost`), which is the same for all tasks, times
 * how many hours of it the task takes (`costFactor`), which is the same for all GPUs of a profile that have the model equally at
 * hand. The index rests on that: gpu-search.ts.
 */

/** So much is added to each price, so that those that are free of charge differ by their records too: 0.001 ORB. */
const addedMicros = 1_000

/** Its price, and more for one with a bad record. Never less than its price. */
export function hourCost(gpu: MarketGpu): number {
  return (gpu.priceMicrosPerHour + addedMicros) * standingFactor(gpu)
}

/** Whether a GPU has the model in memory, on its disk, or has to fetch it. */
export const warmths = ['loaded', 'cached', 'absent'] as const
export type Warmth = (typeof warmths)[number]

export function warmthOn({ modelName, gpus, part }: Wanted, { loadedModels, cachedModels }: MarketGpu): Warmth {
  if (modelName === null) return 'loaded'
  // A model that is spread over several GPUs is loaded anew.
  if (gpus > 1) return 'absent'
  // So it is for a share, which has an engine of its own.
  if (loadedModels.includes(modelName)) return part === null ? 'loaded' : 'cached'
  return cachedModels.includes(modelName) ? 'cached' : 'absent'
}

/** How long tasks take, as measured on GPUs of the same make; null: not measured. */
export type Timings = {
  runMs(wanted: Wanted, gpu: MarketGpu): number | null
  /** From being asked until it is ready. */
  loadMs(wanted: Wanted, gpu: MarketGpu, warmth: Warmth): number | null
}

/** Where nothing was measured. */
export const usualRunMs = 60_000
const usualLoadMs = { loaded: 0, cached: 3_000, absent: 12_000 }
/** Even what is over at once keeps a GPU for as long as it takes to ask it and to hear of the end. Else no price would count. */
const runMsMin = 100

/**
 * Hours of the whole GPU that the task is expected to take up. It gets ready at nobody's cost, but others wait meanwhile. So a
 * fast dear GPU can beat a slow cheap one, and one that has the model one that would have to fetch it.
 */
export function costFactor(wanted: Wanted, gpu: MarketGpu, warmth: Warmth): number {
  const runMs = Math.max(runMsMin, wanted.timings?.runMs(wanted, gpu) ?? usualRunMs)
  return ((runMs + expectedLoadMs(wanted, gpu, warmth)) / 3_600_000) * (milliOn(wanted, gpu) / wholeMilli)
}

/** From being asked until it is ready. */
export function expectedLoadMs(wanted: Wanted, gpu: MarketGpu, warmth: Warmth): number {
  return wanted.timings?.loadMs(wanted, gpu, warmth) ?? usualLoadMs[warmth]
}

type Vram = Pick<MarketGpu, 'usableVramGb' | 'processVramGb'>

/** What the task takes of each GPU, in thousandths. */
export function milliOn({ part }: Pick<Wanted, 'part'>, { usableVramGb, processVramGb }: Vram): number {
  if (part === null) return wholeMilli
  // Each share has a process of its own, which takes something beside what the task uses; of a whole GPU there is one.
  const share = (part.vramGb + processVramGb) / (usableVramGb + processVramGb)
  return Math.max(1, part.milli, Math.ceil(wholeMilli * share))
}

/** The GiB of VRAM that a task can ask for with so many thousandths. */
export function vramGbOf(milli: number, { usableVramGb, processVramGb }: Vram): number {
  return (milli * (usableVramGb + processVramGb)) / wholeMilli - processVramGb
}

/** What an hour of what the task takes of the GPU costs: what an attempt there freezes as its price. */
export function priceOn(wanted: Pick<Wanted, 'part'>, gpu: MarketGpu): Micros {
  return priceOfShare(gpu.priceMicrosPerHour, milliOn(wanted, gpu))
}
