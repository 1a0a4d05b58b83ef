import type { GpuHealth, GpuStatus } from '@orbyte/protocol'
import type { MarketGpu } from './gpu-registry.ts'

type Standing = Pick<MarketGpu, 'liveness' | 'connected' | 'suspended' | 'takenMilli' | 'maintenance' | 'paused'>

/**
 * What a GPU is to the market now, the first of these that is true. A cool-down after failures does not show here: the GPU is
 * available, and matching passes it over with that reason. An agent that is suspended is disconnected, so its GPUs are offline.
 */
export function gpuStatus(gpu: Standing): GpuStatus {
  if (isOffline(gpu)) return 'offline'
  if (gpu.takenMilli > 0) return 'in_use'
  return gpu.maintenance || gpu.paused ? 'maintenance' : 'available'
}

function isOffline({ liveness, connected, suspended }: Standing): boolean {
  return !connected || suspended || !(liveness === 'alive' || liveness === 'suspect')
}

/** Whether it takes new tasks, as far as nothing has it. */
export function takesTasks(gpu: Standing): boolean {
  return !gpu.maintenance && !gpu.paused && !isOffline(gpu)
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
export function isDraining(gpu: Pick<MarketGpu, 'takenMilli' | 'maintenance'>): boolean {
  return gpu.maintenance && gpu.takenMilli > 0
}
