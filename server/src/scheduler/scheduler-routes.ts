import { api } from '@orbyte/protocol'
import { type Route, route } from '../http/route.ts'
import type { TaskService } from '../tasks/task-service.ts'
import type { SubmissionService } from './submission-service.ts'

export function schedulerRoutes(submissions: SubmissionService, tasks: TaskService): Route[] {
  return [
    route(api.tasks.create, (input, caller) => submissions.create(caller, input)),
    route(api.tasks.createBatch, (input, caller) => submissions.createBatch(caller, input.tasks)),
    route(api.tasks.estimate, async (input) => submissions.estimate(input)),
    route(api.tasks.get, async ({ task_id }, caller) => {
      const { stored, ...task } = await tasks.get(caller, task_id)
      return { ...task, waiting: submissions.waiting(stored) }
    }),
  ]
}
