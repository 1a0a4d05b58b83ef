import type { MarketGpu } from './gpu-registry.ts'
import { isOnTrial } from './gpu-status.ts'

type History = Pick<
  MarketGpu,
  'tasksCompleted' | 'tasksFailed' | 'tasksSlow' | 'auditsPassed' | 'auditsFailed' | 'failuresInARow'
>

/** So much dearer does one that is on trial count, however cheap and fast it is: it is chosen only where nothing else is free. */
const trialFactor = 1_000_000_000

/**
 * How much dearer a GPU counts than its price says, for what is known of it: failures of its own (Laplace's rule of succession,
 * so that a new one is not shut out), tasks that took far too long, checks in which it was wrong. Never below 1.
 */
export function standingFactor(gpu: History): number {
  const { tasksCompleted, tasksFailed, tasksSlow, auditsPassed, auditsFailed } = gpu
  const failureRate = (tasksFailed + 1) / (tasksCompleted + tasksFailed + 2)
  const slowRate = tasksSlow / (tasksCompleted + 4)
  const wrongRate = auditsFailed / (auditsPassed + auditsFailed + 1)
  return (1 + failureRate / 2) * (1 + slowRate) * (1 + 2 * wrongRate) * (isOnTrial(gpu) ? trialFactor : 1)
}
