import { attemptHoldsGpu, type End, type ServerMessage } from '@orbyte/protocol'
import { type Context, every } from '../context.ts'
import type { Transaction } from '../db/database.ts'
import type { StoredEvent } from '../event-store.ts'
import type { GpuService } from '../gpus/gpu-service.ts'
import type { ModelService } from '../models/model-service.ts'
import type { PaymentService } from '../payments/payment-service.ts'
import type { SpeedService } from '../speeds/speed-service.ts'
import type { AttemptService } from '../tasks/attempt-service.ts'
import { endTask } from '../tasks/task-ending.ts'
import { createAttemptBook } from './attempt-book.ts'
import { createAttemptEndings } from './attempt-endings.ts'
import { createExpectedEnds } from './expected-ends.ts'
import { createAttemptLimits } from './attempt-limits.ts'
import { type AttemptOffers, createAttemptOffers } from './attempt-offers.ts'
import { createAttemptReports } from './attempt-reports.ts'
import { createAttemptsOfAgents } from './attempts-of-agents.ts'
import { createFreeGpus } from './free-gpus.ts'
import { createKeptRooms } from './kept-rooms.ts'
import { type MarketPause, readPause, writePause } from './market-store.ts'
import { createMatchmaker } from './matchmaker.ts'
import { createMeasuredTimings } from './measured-timings.ts'
import { createRecentDemand } from './recent-demand.ts'
import { createRenterShares } from './renter-shares.ts'
import type { QueuedTask } from './task-queue.ts'

/** Writes a message to an agent's socket. False: the agent is not connected. */
export type SendToAgent = (agentId: string, message: ServerMessage) => boolean
/** The way to the agents. */
export type AgentLink = { send: SendToAgent; isConnected(agentId: string): boolean }

type Parts = {
  gpus: GpuService
  models: ModelService
  payments: PaymentService
  attempts: AttemptService
  speeds: SpeedService
  agents: AgentLink
}
export type Scheduler = Awaited<ReturnType<typeof createScheduler>>

const sweepMs = 1_000

/**
 * Brings waiting tasks and free GPUs together: an offer at a time for each task, to the best GPU that fits (matching.ts), and
 * to the next one if the agent refuses or does not answer. Rebuilds itself from the database.
 */
export async function createScheduler(context: Context, { gpus, models, payments, attempts, speeds, agents }: Parts) {
  const { clock, database, events } = context
  const { registry } = gpus
  const shares = await createRenterShares(context, attempts)
  const book = createAttemptBook({
    added(active) {
      shares.hold(active)
      for (const { gpuId } of active.taken) free.askedChanged(gpuId)
    },
    removed(active) {
      shares.free(active)
      for (const { gpuId } of active.taken) free.askedChanged(gpuId)
    },
  })
  const free = createFreeGpus(context, { registry, agents, book })
  const pause = await database.read(readPause)
  const demand = createRecentDemand()
  const { timings, loadTimes } = createMeasuredTimings({ clock, speeds, demand })
  const { send } = agents
  const rooms = createKeptRooms(context, { free, ends: createExpectedEnds(context, { book }) })
  const offer: AttemptOffers['offer'] = (queued, choice) => offers.offer(queued, choice)
  const matchmaker = createMatchmaker(context, { models, free, rooms, shares, pause, demand, timings, offer })
  const { queue, wake, waiting, requeue, enqueue } = matchmaker
  const endings = createAttemptEndings(context, {
    ...{ book, registry, gpus, payments, attempts, speeds },
    ...{ send, requeue, wake },
  })
  const offers = createAttemptOffers(context, { book, registry, attempts, endings, send })
  const limits = createAttemptLimits(context, { registry, endings })
  const reports = createAttemptReports(context, { book, registry, attempts, endings, limits })
  const { reclaimed, ...ofAgents } = createAttemptsOfAgents(context, { book, endings, offers, limits, reports })

  async function sweep() {
    const nowMs = clock.now()
    const tooLate = [...queue.all()].filter(({ waitUntilMs }) => waitUntilMs <= nowMs)
    await Promise.all(tooLate.map(giveUp))
    shares.forgetOld()
    wake()
  }

  async function giveUp(queued: QueuedTask) {
    const { task } = queued
    if (!queue.remove(task.id)) return
    const message = `No GPU was found in ${Math.round(task.max_wait_ms / 1_000)} s. Nothing was charged. Raise the maximum price or relax the requirements.`
    const end: End = { code: 'no_gpu_found', message, decided_by: 'platform' }
    const ending = { status: 'failed' as const, end, runMs: 0, outputData: null }
    try {
      await database.transaction((tx) => endTask(context, tx, { payments, task, attempt: null, ending }))
    } catch (error) {
      queue.add(queued)
      throw error
    }
  }

  /** What tasks take is what they are expected to take next time. */
  function learn({ type, task_id, data }: StoredEvent) {
    for (const { queued, warmth, askedAtMs, readyAtMs, standing } of book.ofTask(task_id!)) {
      const { wanted } = queued
      if (type === 'task.completed') demand.completed(wanted, data.run_ms as number)
      else if (wanted.modelName !== null && warmth !== null && readyAtMs !== null && standing === 'open')
        loadTimes.add(wanted.modelName, warmth, readyAtMs - askedAtMs)
    }
  }

  /** Tasks that others ended: the queue forgets them, their agents stop. */
  function hear(event: StoredEvent) {
    if (event.type === 'task.completed' || event.type === 'attempt.ready') learn(event)
    if (event.type !== 'task.cancelled' && event.type !== 'task.failed') return
    if (event.task_id === null) return
    queue.remove(event.task_id)
    for (const active of book.ofTask(event.task_id)) if (!active.ending) endings.stop(active, 'the task has ended')
  }

  /** Takes up what the database says was waiting and running. */
  async function recover() {
    const found = await attempts.recover()
    const open = new Map(found.attempts.map((known) => [known.attempt.task_id, known]))
    for (const { task, history } of found.tasks) {
      const known = open.get(task.id)
      if (!known) {
        queue.add(waiting(task, history))
        continue
      }
      const active = offers.activate(waiting(task, history), known)
      if (attemptHoldsGpu(active.status)) registry.reserve(active.attempt.id, active.taken)
      limits.watch(active)
    }
    wake()
  }

  await recover()
  const stopSweeping = every(context, sweepMs, sweep)
  const unsubscribe = [events.subscribe(hear), registry.onChange(wake)]
  // For good: who asks while the market stops is answered too, and only with what has happened.
  gpus.onReclaim(reclaimed)

  return {
    ...{ reports, queue, demand, timings, rooms, pause, enqueue, wake },
    wantedOf: matchmaker.wantedOf,
    gpuIndex: free.index,
    dearestFitting: free.dearestFitting,
    ...ofAgents,
    async setPause(tx: Transaction, next: MarketPause) {
      await writePause(tx, next)
      tx.afterCommit(() => {
        Object.assign(pause, next)
        wake()
      })
    },
    onCompleted: endings.onCompleted,
    /** Who has had how much of the GPUs lately, and what an administrator says of it. */
    shares: {
      view: () => shares.view(queue),
      viewOf: (renterId: string) => shares.viewOf(renterId, queue),
      setWeight: shares.setWeight,
    },
    /** When the GPU was asked that is about to answer for a task, in milliseconds since 1970. Null: none is. */
    askedAtMs: (taskId: string) => book.ofTask(taskId).find(({ status }) => status === 'offered')?.askedAtMs ?? null,
    counts: () => ({ pending: queue.size(), running: book.countOpen() }),
    stop() {
      stopSweeping()
      for (const end of unsubscribe) end()
      matchmaker.stop()
      free.stop()
      book.stop()
    },
  }
}
