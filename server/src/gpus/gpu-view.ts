import type { Gpu } from '@orbyte/protocol'
import type { MarketGpu } from './gpu-registry.ts'
import { gpuStatus, isDraining } from './gpu-status.ts'

/** A GPU as the API shows it. `models`: the names of those that it can run. */
export function viewGpu(gpu: MarketGpu, models: string[]): Gpu {
  return {
    id: gpu.id,
    owner_id: gpu.ownerId,
    name: gpu.name,
    model: gpu.model,
    kind: gpu.kind,
    vram_gb: gpu.vramGb,
    price_per_hour: gpu.priceMicrosPerHour,
    region: gpu.region,
    status: gpuStatus(gpu),
    liveness: gpu.liveness,
    draining: isDraining(gpu),
    task_types: [...gpu.taskTypes],
    models,
    agent_id: gpu.agentId,
    differences: [...gpu.differences],
    specs: gpu.specs,
    telemetry: gpu.telemetry,
    tasks_completed: gpu.tasksCompleted,
    tasks_failed: gpu.tasksFailed,
    created_at: gpu.createdAt,
    last_seen_at: gpu.lastSeenAt,
  }
}
