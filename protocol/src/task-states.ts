import { z } from 'zod'

/**
 * The states of a task and of an attempt, and the moves between them. Whatever writes a status writes it where the status
 * before is one that these tables lead from (`taskStatusesBefore`, `attemptStatusesBefore`), and nowhere else.
 */
export const TaskStatus = z.enum(['pending', 'running', 'completed', 'failed', 'cancelled']).meta({
  id: 'TaskStatus',
  description: 'pending: waiting for a GPU; running: a GPU has accepted it (see its attempts); the others are final.',
})
export type TaskStatus = z.infer<typeof TaskStatus>

export const AttemptStatus = z
  .enum(['offered', 'accepted', 'preparing', 'running', 'completed', 'failed', 'cancelled', 'refused', 'lost'])
  .meta({
    id: 'AttemptStatus',
    description:
      'offered to a GPU; accepted by its agent; preparing (download, load: not charged); running (charged); then completed, failed, cancelled, refused by the agent, or lost with it.',
  })
export type AttemptStatus = z.infer<typeof AttemptStatus>

const taskMoves: Readonly<Record<TaskStatus, readonly TaskStatus[]>> = {
  pending: ['running', 'failed', 'cancelled'],
  running: ['pending', 'completed', 'failed', 'cancelled'],
  completed: [],
  failed: [],
  cancelled: [],
}

const attemptMoves: Readonly<Record<AttemptStatus, readonly AttemptStatus[]>> = {
  offered: ['accepted', 'refused', 'cancelled', 'lost'],
  accepted: ['preparing', 'running', 'failed', 'cancelled', 'lost'],
  preparing: ['running', 'failed', 'cancelled', 'lost'],
  running: ['completed', 'failed', 'cancelled', 'lost'],
  completed: [],
  failed: [],
  cancelled: [],
  refused: [],
  lost: [],
}

export const canTaskMove = (from: TaskStatus, to: TaskStatus) => taskMoves[from].includes(to)
export const canAttemptMove = (from: AttemptStatus, to: AttemptStatus) => attemptMoves[from].includes(to)
/** From where it may get to `to`. */
export const taskStatusesBefore = (to: TaskStatus) => TaskStatus.options.filter((from) => canTaskMove(from, to))
export const attemptStatusesBefore = (to: AttemptStatus) =>
  AttemptStatus.options.filter((from) => canAttemptMove(from, to))
export const isTaskFinal = (status: TaskStatus) => taskMoves[status].length === 0
/** The statuses in which an attempt holds its GPU. */
export const attemptHoldsGpu = (status: AttemptStatus) =>
  status === 'accepted' || status === 'preparing' || status === 'running'

/** Why something ended, and who decided. */
export const End = z
  .object({
    code: z.string().describe('For a program, like "completed", "no_gpu_found", "out_of_memory".'),
    message: z.string().describe('For a person: what happened and, where there is one, the next step.'),
    decided_by: z.enum(['renter', 'provider', 'agent', 'platform', 'admin']),
  })
  .meta({ id: 'End' })
export type End = z.infer<typeof End>
