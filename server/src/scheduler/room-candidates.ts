import type { MarketGpu } from '../gpus/gpu-registry.ts'
import { priceOn } from './expected-cost.ts'
import type { GpuIndex } from './gpu-index.ts'
import { canRun, judgeFit, type Wanted } from './matching.ts'
import { isLargeEnough, isPassedOver } from './rankers.ts'

type At = { readonly index: GpuIndex; readonly nowMs: number }

/** Of each machine the GPUs that could run it, free or busy, one by one or together: where there are as many as it wants. */
export function* machinesFor(index: GpuIndex, wanted: Wanted, nowMs: number): Generator<MarketGpu[]> {
  const { gpu_id } = wanted.requirements
  const named = gpu_id === undefined ? undefined : index.get(gpu_id)
  if (named && wanted.gpus === 1) {
    if (couldRunOn([named], wanted, { index, nowMs })) yield [named]
    return
  }
  for (const { members, sample } of index.profiles) {
    if (!canRun(wanted, sample)) continue
    for (const number of members) {
      const { gpus, isShared } = index.machineOf(number)
      // Each machine once.
      if (gpus[0] !== number || gpus.length < wanted.gpus || (wanted.part !== null && !isShared)) continue
      const able = gpus.map((gpu) => index.gpu(gpu)).filter((gpu) => couldTake(gpu, wanted, { index, nowMs }))
      if (able.length >= wanted.gpus) yield able
    }
  }
}

/** Whether these could still run it together, free or busy. */
export function couldRunOn(
  gpus: readonly MarketGpu[],
  wanted: Wanted,
  at: { index: GpuIndex; nowMs: number },
): boolean {
  const price = gpus.reduce((sum, gpu) => sum + priceOn(wanted, gpu), 0)
  if (price > (wanted.maxPriceMicrosPerHour ?? Infinity)) return false
  return gpus.every((gpu) => {
    if (!at.index.has(gpu) || !couldTake(gpu, wanted, at)) return false
    return judgeFit(wanted, gpu, at.nowMs).rejection === null
  })
}

/** Once it is free, if it is of the right kind. One that takes nothing new will not be free. */
function couldTake(gpu: MarketGpu, wanted: Wanted, { index, nowMs }: At): boolean {
  if (!index.table.isThere[gpu.number] || gpu.maintenance || gpu.paused) return false
  return !isPassedOver(wanted, gpu.id, nowMs) && isLargeEnough(wanted, gpu)
}
