import {
  type AgentMessageOf,
  attemptHoldsGpu,
  type End,
  type ServerMessage,
  type ServerMessageOf,
} from '@orbyte/protocol'
import { type Context, every, newId, nowIso } from '../context.ts'
import type { Transaction } from '../db/database.ts'
import type { StoredEvent } from '../event-store.ts'
import type { MarketGpu } from '../gpus/gpu-registry.ts'
import type { GpuService } from '../gpus/gpu-service.ts'
import type { ModelService } from '../models/model-service.ts'
import type { PaymentService } from '../payments/payment-service.ts'
import { runMsFor } from '../payments/pricing.ts'
import type { AttemptService } from '../tasks/attempt-service.ts'
import type { StoredAttempt } from '../tasks/attempt-store.ts'
import { endTask } from '../tasks/task-ending.ts'
import type { StoredTask } from '../tasks/task-store.ts'
import { type ActiveAttempt, type AttemptRef, createAttemptBook } from './attempt-book.ts'
import { createAttemptEndings } from './attempt-endings.ts'
import { createAttemptReports } from './attempt-reports.ts'
import { type MarketPause, readPause, writePause } from './market-store.ts'
import { chooseBest, judgeFit, judgeNow, type Wanted } from './matching.ts'
import { createTaskQueue, type QueuedTask } from './task-queue.ts'

/** Writes a message to an agent's socket. False: the agent is not connected. */
export type SendToAgent = (agentId: string, message: ServerMessage) => boolean

type Parts = {
  gpus: GpuService
  models: ModelService
  payments: PaymentService
  attempts: AttemptService
  send: SendToAgent
}
export type Scheduler = Awaited<ReturnType<typeof createScheduler>>

const sweepMs = 1_000

/**
 * Brings waiting tasks and free GPUs together: an offer at a time for each task, to the best GPU that fits (matching.ts), and
 * to the next one if the agent refuses or does not answer. Rebuilds itself from the database.
 */
export async function createScheduler(context: Context, { gpus, models, payments, attempts, send }: Parts) {
  const { clock, config, database, events, log } = context
  const { registry } = gpus
  const queue = createTaskQueue()
  const book = createAttemptBook()
  const endings = createAttemptEndings(context, { book, registry, gpus, payments, attempts, send, requeue, wake })
  const reports = createAttemptReports(context, { book, registry, attempts, endings })
  const pause = await database.read(readPause)
  let matchingDue = false

  function wantedOf(task: StoredTask, failedGpus: Map<string, number>): Wanted {
    return {
      taskType: task.task_type,
      requirements: task.requirements,
      model: task.model === null ? null : models.resolve(task.task_type, task.model),
      modelName: task.model,
      maxPriceMicrosPerHour: task.max_price_per_hour,
      failedGpus,
      retryFailed: false,
    }
  }

  function enqueue(task: StoredTask, failedGpus = new Map<string, number>()) {
    const waitUntilMs = Date.parse(task.created_at) + task.max_wait_ms
    queue.add({ task, wanted: wantedOf(task, failedGpus), waitUntilMs })
    wake()
  }

  function requeue({ queued, attempt }: ActiveAttempt) {
    const failedGpus = new Map(queued.wanted.failedGpus).set(attempt.gpu_id, clock.now() + config.timing.coolDownMs)
    queue.add({ ...queued, wanted: { ...queued.wanted, failedGpus } })
    wake()
  }

  /** Looks for matches soon: once, however often it is asked for until then. */
  function wake() {
    if (matchingDue) return
    matchingDue = true
    queueMicrotask(() => {
      matchingDue = false
      if (!pause.paused) matchWaiting()
    })
  }

  function matchWaiting() {
    if (queue.size() === 0) return
    const free = new Set(registry.all().filter((gpu) => gpu.attemptId === null && !book.offersTo(gpu.id)))
    for (const queued of queue.inTurns()) {
      if (free.size === 0) return
      const gpu = bestFor(queued, free)
      if (!gpu) continue
      free.delete(gpu)
      offer(queued, gpu)
    }
  }

  function bestFor({ wanted }: QueuedTask, free: ReadonlySet<MarketGpu>): MarketGpu | null {
    const nowMs = clock.now()
    const random = context.random.bytes(1)[0]! / 256
    const best = (look: Wanted) =>
      chooseBest(
        [...free].map((gpu) => judgeNow(look, gpu, nowMs)),
        random,
      )
    const found = best(wanted)
    if (found || wanted.failedGpus.size === 0) return found
    const others = registry
      .all()
      .some((gpu) => !wanted.failedGpus.has(gpu.id) && !judgeFit(wanted, gpu, nowMs).rejection)
    return others ? null : best({ ...wanted, retryFailed: true })
  }

  /** Sends the attempt at once and writes it with the next commit: one that a crash forgot is fenced off by its token. */
  function offer(queued: QueuedTask, gpu: MarketGpu) {
    const { task } = queued
    const attempt: StoredAttempt = {
      id: newId(context, 'attempt'),
      task_id: task.id,
      gpu_id: gpu.id,
      agent_id: gpu.agentId!,
      provider_id: gpu.ownerId,
      number: queued.wanted.failedGpus.size + 1,
      fencing_token: Buffer.from(context.random.bytes(16)).toString('hex'),
      status: 'offered',
      progress: null,
      price_per_hour: gpu.priceMicrosPerHour,
      run_ms: 0,
      cost: 0 as StoredAttempt['cost'],
      output_length: 0,
      log_lines: 0,
      end: null,
      offered_at: nowIso(context),
      accepted_at: null,
      ready_at: null,
      ended_at: null,
    }
    const active = activate(queued, attempt)
    queue.remove(task.id)
    queue.turnTaken(task.renter_id)
    attempts.offer(active).catch((error: unknown) => {
      log.error({ error, task_id: task.id }, 'an offer could not be written')
      endings.stop(active, 'the offer could not be written')
      requeue(active)
    })
    active.timers.push(
      clock.after(config.timing.acceptMs, () => void noAnswer(active, 'The agent did not answer in time.')),
    )
    if (!send(attempt.agent_id, startMessage(active))) void noAnswer(active, 'The agent is not connected.')
  }

  function activate(queued: QueuedTask, attempt: StoredAttempt): ActiveAttempt {
    const { task } = queued
    const active: ActiveAttempt = {
      attempt,
      task,
      queued,
      durationMsMax: Math.max(1, Math.min(task.max_duration_ms, runMsFor(attempt.price_per_hour, task.hold))),
      status: attempt.status,
      readyAtMs: attempt.ready_at === null ? null : Date.parse(attempt.ready_at),
      outputLength: attempt.output_length,
      outputBytes: attempt.output_length,
      logLines: attempt.log_lines,
      filesKept: Promise.resolve(),
      ending: null,
      stopped: false,
      timers: [],
    }
    book.add(active)
    return active
  }

  function startMessage({ attempt, task, queued, durationMsMax }: ActiveAttempt): ServerMessageOf<'attempt.start'> {
    const { deadMs, deadlineMarginMs } = config.timing
    return {
      type: 'attempt.start',
      attempt_id: attempt.id,
      fencing_token: attempt.fencing_token,
      task_id: task.id,
      device_uuid: registry.get(attempt.gpu_id)!.deviceUuid!,
      task_type: task.task_type,
      input: task.input_data!,
      model: queued.wanted.model,
      duration_ms_max: durationMsMax,
      deadline_in_ms: deadMs - deadlineMarginMs,
      output_bytes_max: config.limits.outputBytesMax,
    }
  }

  async function noAnswer(active: ActiveAttempt, message: string) {
    if (active.status !== 'offered') return
    const end: End = { code: 'accept_timeout', message, decided_by: 'platform' }
    await endings.failProvider(active, { status: 'refused', end })
    endings.stop(active, message)
  }

  /** Nothing runs on the agent's machine any more that the market knows of: it was silent for too long. */
  async function agentDied(agentId: string, reason: string) {
    for (const active of book.ofAgent(agentId))
      await lose(active, { code: 'agent_lost', message: reason, decided_by: 'platform' })
  }

  async function lose(active: ActiveAttempt, end: End) {
    await endings.failProvider(active, { status: active.status === 'offered' ? 'refused' : 'lost', end })
    endings.free(active)
  }

  /**
   * What an agent that has just connected is to do with the attempts that it has. Attempts of its that it does not know any more
   * are lost: tried elsewhere, uncharged.
   */
  async function reconcile(agentId: string, held: AgentMessageOf<'hello'>['attempts']) {
    const known = new Set(held.map(({ attempt_id }) => attempt_id))
    const message = 'The agent came back without it.'
    for (const active of book.ofAgent(agentId))
      if (!known.has(active.attempt.id))
        await lose(active, { code: 'agent_restarted', message, decided_by: 'platform' })
    return held.map(({ attempt_id, fencing_token, status }) => {
      const active = book.find(agentId, { attempt_id, fencing_token })
      const keep = active !== null && (!active.stopped || status === 'ended')
      const deadline_in_ms = config.timing.deadMs - config.timing.deadlineMarginMs
      return { attempt_id, fencing_token, action: keep ? ('keep' as const) : ('stop' as const), deadline_in_ms }
    })
  }

  async function heartbeat(agentId: string, reported: AgentMessageOf<'heartbeat'>['attempts']) {
    const kept: AttemptRef[] = await reports.ticks(agentId, reported)
    const deadline_in_ms = config.timing.deadMs - config.timing.deadlineMarginMs
    return kept.map(({ attempt_id, fencing_token }) => ({ attempt_id, fencing_token, deadline_in_ms }))
  }

  async function reclaim(attemptId: string) {
    const active = book.byId(attemptId)
    if (!active) return
    const message = 'The owner took the GPU back.'
    await endings.failProvider(active, {
      status: 'failed',
      end: { code: 'reclaimed', message, decided_by: 'provider' },
    })
    endings.stop(active, message)
  }

  async function sweep() {
    const nowMs = clock.now()
    for (const { task, waitUntilMs } of [...queue.all()]) {
      if (waitUntilMs > nowMs) continue
      queue.remove(task.id)
      const message = `No GPU was found in ${Math.round(task.max_wait_ms / 1_000)} s. Nothing was charged. Raise the maximum price or relax the requirements.`
      const end: End = { code: 'no_gpu_found', message, decided_by: 'platform' }
      const ending = { status: 'failed' as const, end, runMs: 0, outputData: null }
      await database.transaction((tx) => endTask(context, tx, { payments, task, attempt: null, ending }))
    }
    wake()
  }

  /** Tasks that others ended: the queue forgets them, their agents stop. */
  function hear(event: StoredEvent) {
    if (event.type !== 'task.cancelled' && event.type !== 'task.failed') return
    if (event.task_id !== null) queue.remove(event.task_id)
    for (const active of book.all())
      if (active.task.id === event.task_id && !active.ending) endings.stop(active, 'the task has ended')
  }

  /** Takes up what the database says was waiting and running. */
  async function recover() {
    const found = await attempts.recover()
    const againMs = clock.now() + config.timing.coolDownMs
    const failedGpus = (taskId: string) => new Map(found.failedGpus.get(taskId)?.map((id) => [id, againMs]))
    const waiting = new Map(found.tasks.map((task) => [task.id, task]))
    for (const attempt of found.attempts) {
      const task = waiting.get(attempt.task_id)
      if (!task) continue
      const waitUntilMs = Date.parse(task.created_at) + task.max_wait_ms
      activate({ task, wanted: wantedOf(task, failedGpus(task.id)), waitUntilMs }, attempt)
      if (attemptHoldsGpu(attempt.status)) registry.reserve(attempt.gpu_id, attempt.id)
      waiting.delete(task.id)
    }
    for (const task of waiting.values()) enqueue(task, failedGpus(task.id))
  }

  await recover()
  const stopSweeping = every(context, sweepMs, sweep)
  const unsubscribe = [
    events.subscribe(hear),
    registry.onChange(wake),
    gpus.onReclaim((_gpu, attemptId) => void reclaim(attemptId)),
  ]

  return {
    reports,
    queue,
    pause,
    enqueue,
    wantedOf,
    wake,
    agentDied,
    reconcile,
    heartbeat,
    async setPause(tx: Transaction, next: MarketPause) {
      await writePause(tx, next)
      tx.afterCommit(() => {
        Object.assign(pause, next)
        wake()
      })
    },
    counts: () => ({ pending: queue.size(), running: [...book.all()].filter(({ stopped }) => !stopped).length }),
    stop() {
      stopSweeping()
      for (const end of unsubscribe) end()
      for (const active of book.all()) for (const cancel of active.timers) cancel()
    },
  }
}
