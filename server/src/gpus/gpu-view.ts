import { type Gpu, type ServerMessageOf, wholeMilli } from '@orbyte/protocol'
import { isoFromMs } from '../context.ts'
import type { MarketGpu } from './gpu-registry.ts'
import { gpuHealth, gpuStatus, isDraining, isOnTrial } from './gpu-status.ts'
import { type GpuRecord, lastSeenAt } from './gpu-store.ts'

export type AssignedGpu = ServerMessageOf<'gpus'>['gpus'][number]

/** A GPU as its agent is told of it. */
export function assignedGpu(gpu: GpuRecord & { deviceUuid: string }, nowMs: number): AssignedGpu {
  return {
    uuid: gpu.deviceUuid,
    gpu_id: gpu.id,
    name: gpu.name,
    price_per_hour: gpu.priceMicrosPerHour,
    maintenance: gpu.maintenance,
    cool_down_ms: Math.max(0, gpu.coolDownUntilMs - nowMs),
    on_trial: isOnTrial(gpu),
  }
}

/** A GPU as the API shows it. `models`: the names of those that it can run. */
export function viewGpu(gpu: MarketGpu, { models, nowMs }: { models: string[]; nowMs: number }): Gpu {
  const health = gpuHealth(gpu, nowMs)
  return {
    id: gpu.id,
    owner_id: gpu.ownerId,
    name: gpu.name,
    model: gpu.model,
    kind: gpu.kind,
    vram_gb: gpu.vramGb,
    usable_vram_gb: gpu.usableVramGb,
    price_per_hour: gpu.priceMicrosPerHour,
    region: gpu.region,
    status: gpuStatus(gpu),
    liveness: gpu.liveness,
    draining: isDraining(gpu),
    sharing: gpu.sharing,
    free_milli: wholeMilli - gpu.takenMilli,
    task_types: [...gpu.taskTypes],
    models,
    agent_id: gpu.agentId,
    differences: [...gpu.differences],
    specs: gpu.specs,
    telemetry: gpu.telemetry,
    tasks_completed: gpu.tasksCompleted,
    tasks_failed: gpu.tasksFailed,
    tasks_slow: gpu.tasksSlow,
    audits_passed: gpu.auditsPassed,
    audits_failed: gpu.auditsFailed,
    health,
    cool_down_until: health === 'cooling_down' ? isoFromMs(gpu.coolDownUntilMs) : null,
    created_at: gpu.createdAt,
    last_seen_at: lastSeenAt(gpu),
  }
}
