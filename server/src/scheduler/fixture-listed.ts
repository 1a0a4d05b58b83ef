import { wholeMilli } from '@orbyte/protocol'
import type { MarketGpu } from '../gpus/gpu-registry.ts'
import { gpuStatus } from '../gpus/gpu-status.ts'
import { GpuIndex } from './gpu-index.ts'

/** As the market's index has them. */
export function indexOf(gpus: readonly MarketGpu[], nowMs: number): GpuIndex {
  const index = new GpuIndex()
  for (const gpu of gpus) {
    const isThere = ['available', 'in_use'].includes(gpuStatus(gpu))
    const freeMilli = gpu.coolDownUntilMs <= nowMs ? wholeMilli - gpu.takenMilli : 0
    index.put(gpu, { isThere, freeMilli: isThere ? freeMilli : 0 })
  }
  return index
}
