import type { End, Model, Task } from '@orbyte/protocol'
import { type Context, nowIso } from '../context.ts'
import type { Transaction } from '../db/database.ts'
import type { GpuRegistry } from '../gpus/gpu-registry.ts'
import type { AttemptEnd, GpuService } from '../gpus/gpu-service.ts'
import type { PaymentService } from '../payments/payment-service.ts'
import { chargedMs } from '../payments/pricing.ts'
import type { SpeedService } from '../speeds/speed-service.ts'
import type { AttemptService } from '../tasks/attempt-service.ts'
import type { Reported } from '../tasks/reported.ts'
import { type AttemptFailure, endTask, type Ending } from '../tasks/task-ending.ts'
import type { OpenTask } from '../tasks/task-store.ts'
import { type ActiveAttempt, type AttemptBook, hasShownWork, hasWholeGpu, isOpen, stopTimers } from './attempt-book.ts'
import type { Matchmaker } from './matchmaker.ts'
import type { SendToAgent } from './scheduler-service.ts'

export type AttemptEndings = ReturnType<typeof createAttemptEndings>

type Parts = {
  book: AttemptBook
  registry: GpuRegistry
  gpus: GpuService
  payments: PaymentService
  attempts: AttemptService
  speeds: SpeedService
  send: SendToAgent
  requeue: Matchmaker['requeue']
  wake: () => void
}
/** A task that has completed: what was asked for, with which model of the catalogue, and where it ran. */
export type Completed = {
  readonly task: OpenTask
  readonly model: Model | null
  readonly gpuId: string
  /** It took far longer than it should have. */
  readonly isSlow: boolean
}
type Result = {
  claimedMs: number
  outputData: Task['output_data']
  /** How much was done (speed-work.ts); null: nothing that can be counted. */
  work: number | null
}

/** `reported`: how far the attempt was by all that its agent had said before. */
type EndingWork = (tx: Transaction, reported: Reported) => Promise<boolean>

/** How long until what could not be written (a full disk) is tried again. */
const retryMs = 1_000

/** How attempts end, and what that means for their task, its money and the GPU. */
export function createAttemptEndings(context: Context, parts: Parts) {
  const { book, registry, gpus, payments, attempts, speeds, send, requeue, wake } = parts
  const { database } = context
  const completionListeners = new Set<(completed: Completed) => void>()

  /**
   * Runs the transaction that ends an attempt, after the one that is on its way: only once that is decided may the GPU be given
   * away. If the database says that it has ended otherwise meanwhile (a cancel that was committed first), nothing changes; if
   * something that was reported before could not be kept, it rejects. Whoever waits for `ending` finds that it has ended.
   */
  async function end(active: ActiveAttempt, work: EndingWork): Promise<boolean> {
    while (active.ending) await active.ending
    if (!isOpen(active)) return false
    const { status, outputLength, logLines, fileBytes } = active
    const reported = { status, outputLength, logLines, hasFiles: fileBytes.size > 0 }
    const written = write(active, (tx) => work(tx, reported))
    active.ending = written.then(
      () => {},
      () => {},
    )
    return written
  }

  async function write(active: ActiveAttempt, work: (tx: Transaction) => Promise<boolean>): Promise<boolean> {
    try {
      const ended = await database.transaction(work)
      stopTimers(active)
      active.standing = 'ended'
      return ended
    } finally {
      active.ending = null
    }
  }

  /** For what has to be: it is tried again later for as long as it cannot be written. Rejects where it was not at once. */
  async function insist(active: ActiveAttempt, work: () => Promise<void>): Promise<void> {
    try {
      await work()
    } catch (error) {
      context.log.error({ error, attempt_id: active.attempt.id }, 'the end of an attempt could not be written')
      const cancel = context.clock.after(retryMs, () => {
        active.retries.delete(cancel)
        persist(active, work)
      })
      active.retries.add(cancel)
      throw error
    }
  }

  /** The same, where nobody waits for it. */
  const persist = (active: ActiveAttempt, work: () => Promise<void>) => void insist(active, work).catch(() => {})

  /** The GPUs are free: nothing of the attempt runs on them any more. */
  function free(active: ActiveAttempt) {
    book.remove(active)
    registry.release(active.attempt.id, active.taken)
    wake()
  }

  /** The attempt is over for the market. Its GPUs are kept until the agent confirms, or has been silent for too long. */
  function stop(active: ActiveAttempt, reason: string) {
    if (active.standing === 'stopped') return
    stopTimers(active)
    active.standing = 'stopped'
    const { id, fencing_token, agent_id } = active.attempt
    send(agent_id, { type: 'attempt.stop', attempt_id: id, fencing_token, reason })
    if (active.status === 'offered') return free(active)
    active.timers.push(context.clock.after(context.config.timing.deadMs, () => free(active)))
    wake()
  }

  /** Run time that the evidence supports: the agent's claim, bounded by the server's own clock and the maximum. */
  function evidence(active: ActiveAttempt, claimedMs: number): number {
    if (active.readyAtMs === null) return 0
    const observedMs = context.clock.now() - active.readyAtMs
    return chargedMs({ claimedMs, observedMs, maxMs: active.durationMsMax })
  }

  /** Keeps how long it has run by now, as far as there is evidence: what is charged where no result says more. */
  function noteRun(active: ActiveAttempt, claimedMs: number): number {
    active.reportedRunMs = Math.max(active.reportedRunMs, evidence(active, claimedMs))
    return active.reportedRunMs
  }

  const settle = (tx: Transaction, { task, attempt }: ActiveAttempt, ending: Ending) =>
    endTask(context, tx, { payments, task, attempt, ending })

  async function recordEnd(tx: Transaction, { taken }: ActiveAttempt, outcome: AttemptEnd['outcome']) {
    const nowMs = context.clock.now()
    for (const { gpuId } of taken) await gpus.recordAttemptEnd(tx, gpuId, { outcome, nowMs })
  }

  /** The run, as it is measured: only of the catalogue's models, which are the same on all GPUs, and only on one whole GPU. */
  function measure(active: ActiveAttempt, done: { work: number | null; runMs: number }) {
    const { attempt, task, queued } = active
    const { model } = queued.wanted
    if (model === null || done.work === null || !hasWholeGpu(active)) return null
    return { gpuId: attempt.gpu_id, model: model.name, taskType: task.task_type, work: done.work, runMs: done.runMs }
  }

  /** Notes what the run should have taken, and whether it took far longer: that is kept with the attempt and the GPU. */
  async function noteSpeed(tx: Transaction, active: ActiveAttempt, run: NonNullable<ReturnType<typeof measure>>) {
    const verdict = speeds.judge(run)
    if (!verdict) return false
    await attempts.noteSpeed(tx, active, { ...verdict, runMs: run.runMs })
    if (verdict.slow) await gpus.recordSlowTask(tx, run.gpuId)
    return verdict.slow
  }

  function tellCompleted({ task, attempt, queued }: ActiveAttempt, isSlow: boolean) {
    const completed = { task, model: queued.wanted.model, gpuId: attempt.gpu_id, isSlow }
    for (const listen of completionListeners) listen(completed)
  }

  async function complete(active: ActiveAttempt, result: Result) {
    const runMs = evidence(active, result.claimedMs)
    const message = `Completed after ${(runMs / 1_000).toFixed(3)} s of run time.`
    const outcome: End = { code: 'completed', message, decided_by: 'agent' }
    await end(active, async (tx, reported) => {
      const ending: Ending = { status: 'completed', end: outcome, runMs, outputData: result.outputData, reported }
      if (!(await settle(tx, active, ending))) return false
      await recordEnd(tx, active, 'completed')
      const run = measure(active, { work: result.work, runMs })
      const isSlow = run !== null && (await noteSpeed(tx, active, run))
      if (run) await speeds.record(tx, run)
      if (hasWholeGpu(active)) tx.afterCommit(() => tellCompleted(active, isSlow))
      return true
    })
    free(active)
  }

  /**
   * The renter's work failed: charged for the time it ran, not tried again. Where the work would have shown and has not, there
   * is no evidence for the charge; and that it ran to its maximum for nothing is the provider's failure.
   */
  function failRenter(active: ActiveAttempt, failure: { claimedMs: number; end: End }) {
    const isShown = hasShownWork(active)
    if (!isShown && failure.end.code === 'max_duration') {
      const message = `It ran for the ${Math.round(active.durationMsMax / 1_000)} s that it may and put out nothing.`
      return failProvider(active, { status: 'failed', end: { ...failure.end, code: 'no_output', message } })
    }
    const runMs = isShown ? evidence(active, failure.claimedMs) : 0
    // Text that was still coming when its time was over: no more tokens than bytes.
    const run =
      failure.end.code === 'max_duration' ? measure(active, { work: active.outputBytes || null, runMs }) : null
    return end(active, async (tx, reported) => {
      const ending: Ending = { status: 'failed', end: failure.end, runMs, outputData: null, reported }
      if (!(await settle(tx, active, ending))) return false
      if (run) await noteSpeed(tx, active, run)
      return true
    })
  }

  /** The provider's side failed: not charged, tried elsewhere as long as there are attempts left. */
  function failProvider(active: ActiveAttempt, failure: AttemptFailure) {
    const { attempt, task } = active
    return end(active, async (tx, reported) => {
      const hadBegun = reported.status !== 'offered'
      const count = hadBegun ? await attempts.attemptsCountOf(tx, task.id) : 0
      const again = !hadBegun || attempt.trial || count < context.config.limits.attemptsPerTaskMax
      const message = `Tried ${count} times without success; the last time: ${failure.end.message} Nothing was charged.`
      const exhausted: End = { code: 'attempts_exhausted', message, decided_by: 'platform' }
      const last: Ending = { status: 'failed', end: exhausted, runMs: 0, outputData: null, attempt: failure, reported }
      const changed = !hadBegun
        ? await attempts.decline(tx, active, {
            status: failure.status === 'lost' ? 'lost' : 'refused',
            end: failure.end,
          })
        : await (again ? attempts.requeue(tx, active, { ...failure, reported }) : settle(tx, active, last))
      if (!changed) return false
      const isSilent = failure.end.code === 'accept_timeout'
      const outcome = hadBegun ? 'provider_failed' : isSilent ? 'unanswered' : null
      if (outcome) await recordEnd(tx, active, outcome)
      // In the place of this commit, so that a cancel which is committed after it finds the task in the queue.
      const failedAt = hadBegun || failure.status === 'refused' ? nowIso(context) : null
      if (again) tx.afterCommit(() => requeue(active, { failedAt, hadBegun }))
      return true
    })
  }

  return {
    ...{ complete, failRenter, failProvider, stop, free, noteRun, insist, persist },
    /** `listen` hears after the commit of what had one whole GPU, which others can be compared with; it must not throw. */
    onCompleted(listen: (completed: Completed) => void): () => void {
      completionListeners.add(listen)
      return () => completionListeners.delete(listen)
    },
  }
}
