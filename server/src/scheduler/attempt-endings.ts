import type { End, Task } from '@orbyte/protocol'
import type { Context } from '../context.ts'
import type { Transaction } from '../db/database.ts'
import type { GpuRegistry } from '../gpus/gpu-registry.ts'
import type { GpuService } from '../gpus/gpu-service.ts'
import type { PaymentService } from '../payments/payment-service.ts'
import { chargedMs } from '../payments/pricing.ts'
import type { AttemptService } from '../tasks/attempt-service.ts'
import { endTask } from '../tasks/task-ending.ts'
import { type ActiveAttempt, type AttemptBook, stopTimers } from './attempt-book.ts'
import type { SendToAgent } from './scheduler-service.ts'

export type AttemptEndings = ReturnType<typeof createAttemptEndings>

type Parts = {
  book: AttemptBook
  registry: GpuRegistry
  gpus: GpuService
  payments: PaymentService
  attempts: AttemptService
  send: SendToAgent
  /** The task waits again; the GPU that failed it is passed over. */
  requeue: (active: ActiveAttempt) => void
  wake: () => void
}

/** How attempts end, and what that means for their task, its money and the GPU. */
export function createAttemptEndings(context: Context, parts: Parts) {
  const { book, registry, gpus, payments, attempts, send, requeue, wake } = parts
  const { database } = context

  /**
   * Runs the transaction that ends an attempt. If the database says that it has ended otherwise meanwhile (a cancel that was
   * committed first), nothing changes and the attempt counts as stopped.
   */
  async function end(active: ActiveAttempt, work: (tx: Transaction) => Promise<boolean>): Promise<boolean> {
    if (active.ending || active.stopped) return false
    stopTimers(active)
    active.ending = database.transaction(work)
    try {
      return await active.ending
    } finally {
      active.ending = null
    }
  }

  /** The GPU is free: nothing of the attempt runs on it any more. */
  function free(active: ActiveAttempt) {
    book.remove(active)
    registry.release(active.attempt.gpu_id, active.attempt.id)
    wake()
  }

  /** The attempt is over for the market. Its GPU is kept until the agent confirms, or has been silent for too long. */
  function stop(active: ActiveAttempt, reason: string) {
    if (active.stopped) return
    stopTimers(active)
    if (active.status === 'offered') book.remove(active)
    active.stopped = true
    const { id, fencing_token, agent_id } = active.attempt
    send(agent_id, { type: 'attempt.stop', attempt_id: id, fencing_token, reason })
    active.timers.push(context.clock.after(context.config.timing.deadMs, () => free(active)))
    wake()
  }

  /** Run time that the evidence supports: the agent's claim, bounded by the server's own clock and the maximum. */
  function evidence(active: ActiveAttempt, claimedMs: number): number {
    if (active.readyAtMs === null) return 0
    const observedMs = context.clock.now() - active.readyAtMs
    return chargedMs({ claimedMs, observedMs, maxMs: active.durationMsMax })
  }

  async function complete(active: ActiveAttempt, result: { claimedMs: number; outputData: Task['output_data'] }) {
    const runMs = evidence(active, result.claimedMs)
    await end(active, async (tx) => {
      await gpus.recordAttemptEnd(tx, active.attempt.gpu_id, { outcome: 'completed', nowMs: context.clock.now() })
      const message = `Completed after ${(runMs / 1_000).toFixed(3)} s of run time.`
      return endTask(context, tx, {
        payments,
        task: active.task,
        attempt: active.attempt,
        ending: {
          status: 'completed',
          end: { code: 'completed', message, decided_by: 'agent' },
          runMs,
          outputData: result.outputData,
        },
      })
    })
    free(active)
  }

  /** The renter's work failed: charged for the time it ran, not tried again. */
  async function failRenter(active: ActiveAttempt, failure: { claimedMs: number; end: End }) {
    const runMs = evidence(active, failure.claimedMs)
    return end(active, (tx) =>
      endTask(context, tx, {
        payments,
        task: active.task,
        attempt: active.attempt,
        ending: { status: 'failed', end: failure.end, runMs, outputData: null },
      }),
    )
  }

  /** The provider's side failed: not charged, tried elsewhere as long as there are attempts left. */
  async function failProvider(active: ActiveAttempt, failure: { status: 'failed' | 'lost' | 'refused'; end: End }) {
    const { attempt, task } = active
    let again = false
    const ended = await end(active, async (tx) => {
      const count = await attempts.attemptsCountOf(tx, task.id)
      again = failure.status === 'refused' || count < context.config.limits.attemptsPerTaskMax
      if (failure.status !== 'refused')
        await gpus.recordAttemptEnd(tx, attempt.gpu_id, { outcome: 'provider_failed', nowMs: context.clock.now() })
      if (again) return attempts.requeue(tx, active, failure)
      const message = `Tried on ${count} GPUs without success; the last one: ${failure.end.message} Nothing was charged.`
      return endTask(context, tx, {
        payments,
        task,
        attempt,
        ending: {
          status: 'failed',
          end: { code: 'attempts_exhausted', message, decided_by: 'platform' },
          runMs: 0,
          outputData: null,
        },
      })
    })
    if (ended && again) requeue(active)
    return ended
  }

  return { complete, failRenter, failProvider, stop, free, evidence }
}
