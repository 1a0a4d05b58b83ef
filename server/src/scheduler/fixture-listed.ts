import type { MarketGpu } from '../gpus/gpu-registry.ts'
import { gpuStatus } from '../gpus/gpu-status.ts'
import { GpuIndex } from './gpu-index.ts'
import { wholeMilli } from './packing.ts'

/** As the market's index has them. */
export function indexOf(gpus: readonly MarketGpu[], nowMs: number): GpuIndex {
  const index = new GpuIndex()
  for (const gpu of gpus) {
    const isThere = ['available', 'in_use'].includes(gpuStatus(gpu))
    const isFree = gpu.attemptId === null && gpu.coolDownUntilMs <= nowMs
    index.put(gpu, { isThere, freeMilli: isThere && isFree ? wholeMilli : 0, isShared: false })
  }
  return index
}
