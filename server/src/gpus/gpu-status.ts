import type { GpuStatus } from '@orbyte/protocol'
import type { MarketGpu } from './gpu-registry.ts'

type Standing = Pick<MarketGpu, 'liveness' | 'connected' | 'suspended' | 'attemptId' | 'maintenance' | 'paused'>

/**
 * What a GPU is to the market now, the first of these that is true. A cool-down after failures does not show here: the GPU is
 * available, and matching passes it over with that reason. An agent that is suspended is disconnected, so its GPUs are offline.
 */
export function gpuStatus(gpu: Standing): GpuStatus {
  const heard = gpu.liveness === 'alive' || gpu.liveness === 'suspect'
  if (!heard || !gpu.connected || gpu.suspended) return 'offline'
  if (gpu.attemptId !== null) return 'in_use'
  if (gpu.maintenance || gpu.paused) return 'maintenance'
  return 'available'
}

/** It finishes what runs on it and takes nothing new. */
export function isDraining(gpu: Pick<MarketGpu, 'attemptId' | 'maintenance'>): boolean {
  return gpu.maintenance && gpu.attemptId !== null
}
