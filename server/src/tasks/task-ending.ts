import type { End, Micros, Task, TaskStatus } from '@orbyte/protocol'
import { type Context, nowIso } from '../context.ts'
import type { Transaction } from '../db/database.ts'
import type { PaymentService } from '../payments/payment-service.ts'
import { costOf } from '../payments/pricing.ts'
import type { StoredAttempt } from './attempt-store.ts'
import { finishTask, writeOwnEnd } from './ending-store.ts'
import type { Reported } from './reported.ts'
import { deletePartsOf } from './task-file-store.ts'
import type { EndableTask } from './task-store.ts'

/** How an attempt failed where the fault was the provider's: it is not charged. */
export type AttemptFailure = { status: 'failed' | 'lost' | 'refused'; end: End }

export type Ending = {
  status: Extract<TaskStatus, 'completed' | 'failed' | 'cancelled'>
  end: End
  /** What is charged: run time of the last attempt, zero where the fault was not the renter's. */
  runMs: number
  outputData: Task['output_data']
  /** How the attempt ended, where that differs from how the task did. */
  attempt?: AttemptFailure
  /** How far its agent says that the attempt was: it ends only if all of that is kept. */
  reported?: Reported
}

/**
 * Ends a task for good: its attempt, its state, its money and the event that tells of it, in the caller's transaction.
 * `attempt` is the task's current one, or null if it has none. Returns false, and changes nothing, if the task or the attempt
 * has ended already: a task is settled at most once.
 */
export async function endTask(
  context: Context,
  tx: Transaction,
  what: { payments: PaymentService; task: EndableTask; attempt: StoredAttempt | null; ending: Ending },
): Promise<boolean> {
  const { payments, task, attempt, ending } = what
  const at = nowIso(context)
  const runMs = attempt ? ending.runMs : 0
  const cost = (attempt ? Math.min(costOf(attempt.price_per_hour, runMs), task.hold) : 0) as Micros
  const { status, end, outputData, reported } = ending
  if (!(await finishTask(tx, task.id, { status, end, cost, runMs, outputData, at, attempt, reported }))) return false
  if (attempt && ending.attempt) await writeOwnEnd(tx, attempt, ending.attempt)
  // Whoever cancels does not know whether there are any.
  if (attempt && reported?.hasFiles !== false) await deletePartsOf(tx, attempt.id)
  const payment = await payments.charge(tx, {
    task_id: task.id,
    attempt_id: attempt?.id ?? '',
    gpu_id: attempt?.gpu_id ?? '',
    payer_id: task.renter_id,
    recipient_id: attempt?.provider_id ?? '',
    cost,
    run_ms: runMs,
    price_per_hour: attempt?.price_per_hour ?? (0 as Micros),
    auto_pay: task.auto_pay,
  })
  await tellEnd(context, tx, { task, attempt, ending, paymentId: payment?.id ?? null })
  return true
}

async function tellEnd(
  context: Context,
  tx: Transaction,
  what: { task: EndableTask; attempt: StoredAttempt | null; ending: Ending; paymentId: string | null },
) {
  const { task, attempt, ending, paymentId } = what
  const [task_id, user_id, attempt_id] = [task.id, task.renter_id, attempt?.id ?? null]
  if (attempt) {
    const { status, end } = ending.attempt ?? ending
    const data = { status, end, run_ms: ending.runMs, gpu_id: attempt.gpu_id }
    const { provider_id } = attempt
    await context.events.append(tx, { type: 'attempt.ended', task_id, attempt_id, user_id, provider_id, data })
  }
  const data = { end: ending.end, run_ms: attempt ? ending.runMs : 0, payment_id: paymentId }
  const type = `task.${ending.status}` as const
  await context.events.append(tx, { type, task_id, attempt_id, user_id, provider_id: null, data })
}
