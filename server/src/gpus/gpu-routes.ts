import { api } from '@orbyte/protocol'
import { route, type Route } from '../http/route.ts'
import type { GpuService } from './gpu-service.ts'

export function gpuRoutes(gpus: GpuService): Route[] {
  return [
    route(api.gpus.list, async (input) => gpus.list(input)),
    route(api.gpus.mine, async (input, caller) => gpus.mine(caller, input)),
    route(api.gpus.create, async (input, caller) => gpus.create(caller, input)),
    route(api.gpus.get, async ({ gpu_id }) => gpus.get(gpu_id)),
    route(api.gpus.update, async (input, caller) => gpus.update(caller, input)),
    route(api.gpus.delete, async ({ gpu_id }, caller) => gpus.remove(caller, gpu_id)),
    route(api.gpus.reclaim, async ({ gpu_id }, caller) => gpus.reclaim(caller, gpu_id)),
    route(api.gpus.prices, async ({ gpu_id }) => gpus.prices(gpu_id)),
    route(api.gpus.telemetry, async ({ gpu_id, since }) => gpus.telemetry(gpu_id, since)),
  ]
}
