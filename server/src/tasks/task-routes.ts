import { api } from '@orbyte/protocol'
import { rawRoute, type Route, route } from '../http/route.ts'
import type { GpuService } from '../gpus/gpu-service.ts'
import type { TaskService } from './task-service.ts'
import type { TaskStreams } from './task-streams.ts'

export function taskRoutes(tasks: TaskService, streams: TaskStreams, gpus: GpuService): Route[] {
  return [
    route(api.tasks.list, (input, caller) => tasks.list(caller, input)),
    route(api.tasks.images, (page, caller) => tasks.images(caller, page)),
    route(api.tasks.cancel, ({ task_id }, caller) => tasks.cancel(caller, task_id)),
    rawRoute(api.tasks.events, (input, caller, reply) => streams.events(input, caller, reply)),
    rawRoute(api.tasks.output, ({ task_id }, caller, reply) =>
      streams.text('output.appended', caller, { taskId: task_id, reply }),
    ),
    rawRoute(api.tasks.logs, ({ task_id }, caller, reply) =>
      streams.text('log.appended', caller, { taskId: task_id, reply }),
    ),
    rawRoute(api.tasks.file, (input, caller, reply) => streams.file(input, caller, reply)),
    route(api.tasks.deleteData, async ({ task_id }, caller) => {
      await tasks.deleteData(caller, task_id)
      return { ok: true as const }
    }),
    route(api.gpus.attempts, async ({ gpu_id, ...page }, caller) => {
      await gpus.assertOwner(caller, gpu_id)
      return tasks.attemptsOfGpu(gpu_id, page)
    }),
  ]
}
