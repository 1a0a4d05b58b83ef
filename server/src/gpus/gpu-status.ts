import type { GpuHealth, GpuStatus } from '@orbyte/protocol'
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

/** Failures in a row after which it is no longer trusted with whatever comes. */
export const failuresUntilTrial = 3

type Failures = Pick<MarketGpu, 'failuresInARow' | 'coolDownUntilMs'>

/**
 * A circuit breaker. After a failure it cools down; after several in a row it is on trial when that is over: it is asked only
 * where no other GPU is free, and what it fails then is no attempt of the task's. One success, and it is as good as any.
 */
export function gpuHealth(gpu: Failures, nowMs: number): GpuHealth {
  if (gpu.coolDownUntilMs > nowMs) return 'cooling_down'
  return isOnTrial(gpu) ? 'on_trial' : 'good'
}

export function isOnTrial({ failuresInARow }: Pick<Failures, 'failuresInARow'>): boolean {
  return failuresInARow >= failuresUntilTrial
}

/** It finishes what runs on it and takes nothing new. */
export function isDraining(gpu: Pick<MarketGpu, 'attemptId' | 'maintenance'>): boolean {
  return gpu.maintenance && gpu.attemptId !== null
}
