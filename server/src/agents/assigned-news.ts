import type { Context } from '../context.ts'
import type { GpuRegistry, MarketGpu } from '../gpus/gpu-registry.ts'
import { isOnTrial } from '../gpus/gpu-status.ts'
import { type AssignedGpu, assignedGpu } from '../gpus/gpu-view.ts'
import type { AgentConnections } from './agent-connections.ts'

type Parts = { registry: GpuRegistry; connections: AgentConnections }

/** What agents have been told of their GPUs, so that they hear of what has changed and of nothing else. */
export function createAssignedNews({ clock }: Pick<Context, 'clock'>, { registry, connections }: Parts) {
  const told = new Map<string, News>()

  return {
    /** Their agent is being told of these now. One that its owner has just deleted is no news. */
    note(gpus: readonly AssignedGpu[]) {
      for (const { gpu_id } of gpus) {
        const gpu = registry.get(gpu_id)
        if (gpu) told.set(gpu_id, newsOf(gpu))
      }
    },

    /** Tells the agent of a GPU's new name, price, maintenance or cool-down. */
    tell(gpu: MarketGpu) {
      const { agentId, deviceUuid } = gpu
      if (agentId === null || deviceUuid === null) return
      const known = told.get(gpu.id)
      if (!known || isKnown(gpu, known)) return
      told.set(gpu.id, newsOf(gpu))
      connections.send(agentId, { type: 'gpus', gpus: [assignedGpu({ ...gpu, deviceUuid }, clock.now())] })
    },
  }
}

type News = Pick<MarketGpu, 'name' | 'priceMicrosPerHour' | 'maintenance' | 'coolDownUntilMs'> & { onTrial: boolean }

function newsOf(gpu: MarketGpu): News {
  const { name, priceMicrosPerHour, maintenance, coolDownUntilMs } = gpu
  return { name, priceMicrosPerHour, maintenance, coolDownUntilMs, onTrial: isOnTrial(gpu) }
}

/** A GPU changes with each attempt on it, and hardly ever in what its agent is told of it. */
function isKnown(gpu: MarketGpu, told: News): boolean {
  return (
    gpu.name === told.name &&
    gpu.priceMicrosPerHour === told.priceMicrosPerHour &&
    gpu.maintenance === told.maintenance &&
    gpu.coolDownUntilMs === told.coolDownUntilMs &&
    isOnTrial(gpu) === told.onTrial
  )
}
