/**
 * The states of a task and of an attempt, and the moves between them. Whatever brings about a status does so where the status
 * before is one that these tables lead from, and nowhere else.
 */
export const taskStatuses = ['pending', 'running', 'completed', 'failed', 'cancelled'] as const
export const attemptStatuses = [
  'offered',
  'accepted',
  'preparing',
  'running',
  'completed',
  'failed',
  'cancelled',
  'refused',
  'lost',
] as const
type TaskStatus = (typeof taskStatuses)[number]
type AttemptStatus = (typeof attemptStatuses)[number]

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
export const attemptStatusesBefore = (to: AttemptStatus) => attemptStatuses.filter((from) => canAttemptMove(from, to))
export const isTaskFinal = (status: TaskStatus) => taskMoves[status].length === 0
/** The statuses in which an attempt holds its GPU. */
export const attemptHoldsGpu = (status: AttemptStatus) =>
  status === 'accepted' || status === 'preparing' || status === 'running'
