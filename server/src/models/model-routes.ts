import { api } from '@orbyte/protocol'
import { rawRoute, route, type Route } from '../http/route.ts'
import { sendModelFile } from './model-file.ts'
import type { ModelService } from './model-service.ts'

export function modelRoutes(models: ModelService): Route[] {
  return [
    route(api.models.list, async ({ task_type }) => ({ items: models.list(task_type) })),
    rawRoute(api.models.file, async ({ sha256 }, _caller, reply) => sendModelFile(reply, sha256, models.file(sha256))),
  ]
}
