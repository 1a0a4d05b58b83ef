import { z } from 'zod'
import { attemptStatuses, taskStatuses } from './task-states.ts'

export const TaskStatus = z.enum(taskStatuses).meta({
  id: 'TaskStatus',
  description: 'pending: waiting for a GPU; running: a GPU has accepted it (see its attempts); the others are final.',
})
export type TaskStatus = z.infer<typeof TaskStatus>

export const AttemptStatus = z.enum(attemptStatuses).meta({
  id: 'AttemptStatus',
  description:
    'offered to a GPU; accepted by its agent; preparing (download, load: not charged); running (charged); then completed, failed, cancelled, refused by the agent, or lost with it.',
})
export type AttemptStatus = z.infer<typeof AttemptStatus>

/** Why something ended, and who decided. */
export const End = z
  .object({
    code: z.string().describe('For a program, like "completed", "no_gpu_found", "out_of_memory".'),
    message: z.string().describe('For a person: what happened and, where there is one, the next step.'),
    decided_by: z.enum(['renter', 'provider', 'agent', 'platform', 'admin']),
  })
  .meta({ id: 'End' })
export type End = z.infer<typeof End>
