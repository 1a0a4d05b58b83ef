import { api } from '@orbyte/protocol'
import { type Route, route } from '../http/route.ts'
import type { TaskService } from '../tasks/task-service.ts'
import type { ExplanationService } from './explanation-service.ts'
import type { SubmissionService } from './submission-service.ts'

type Parts = { submissions: SubmissionService; explanations: ExplanationService; tasks: TaskService }

export function schedulerRoutes({ submissions, explanations, tasks }: Parts): Route[] {
  return [
    route(api.tasks.create, (input, caller) => submissions.create(caller, input)),
    route(api.tasks.createBatch, (input, caller) => submissions.createBatch(caller, input.tasks)),
    route(api.tasks.estimate, async (input, caller) => submissions.estimate(caller, input)),
    route(api.tasks.get, async ({ task_id }, caller) => {
      const { stored, ...task } = await tasks.get(caller, task_id)
      return { ...task, waiting: explanations.waiting(stored) }
    }),
    route(api.tasks.explain, async ({ task_id, limit }, caller) => {
      const { stored, end } = await tasks.get(caller, task_id)
      return explanations.explainTask(stored, { end, limit })
    }),
    route(api.gpus.explain, ({ gpu_id }, caller) => explanations.explainGpu(caller, gpu_id)),
  ]
}
