import { api } from '@orbyte/protocol'
import { type Route, route } from '../http/route.ts'
import type { SpeedService } from './speed-service.ts'

export function speedRoutes(speeds: SpeedService): Route[] {
  return [route(api.gpus.speeds, ({ gpu_id }) => speeds.ofGpu(gpu_id))]
}
