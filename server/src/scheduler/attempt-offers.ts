import { type End, type Micros, priceTogether, type ServerMessageOf, type Task, wholeMilli } from '@orbyte/protocol'
import { type Context, newId, nowIso } from '../context.ts'
import type { GpuRegistry } from '../gpus/gpu-registry.ts'
import { isOnTrial } from '../gpus/gpu-status.ts'
import { runMsFor } from '../payments/pricing.ts'
import type { AttemptService } from '../tasks/attempt-service.ts'
import type { StoredAttemptGpu } from '../tasks/attempt-gpu-store.ts'
import type { StoredAttempt } from '../tasks/attempt-store.ts'
import { type ActiveAttempt, type AttemptBook, deadlineInMs, isOpen, stopTimers } from './attempt-book.ts'
import type { AttemptEndings } from './attempt-endings.ts'
import { priceOn, warmthOn } from './expected-cost.ts'
import type { Choice } from './gpu-search.ts'
import type { Wanted } from './matching.ts'
import type { SendToAgent } from './scheduler-service.ts'
import type { QueuedTask } from './task-queue.ts'

type Parts = {
  book: AttemptBook
  registry: GpuRegistry
  attempts: AttemptService
  endings: AttemptEndings
  send: SendToAgent
}
/**
 * What the database knows of an attempt: with the size of each file that has begun to arrive, and which are not whole. `gpus`: what
 * it has of which; none: all of its one.
 */
type Known = {
  attempt: StoredAttempt
  gpus: readonly StoredAttemptGpu[]
  fileBytes: Map<string, number>
  unfinishedFiles: Set<string>
}
export type AttemptOffers = ReturnType<typeof createAttemptOffers>

/** How an attempt begins: it is sent to its agent, who has a few seconds to take it. */
export function createAttemptOffers(context: Context, { book, registry, attempts, endings, send }: Parts) {
  const { clock, config } = context

  /**
   * Sends the attempt, which is written with its agent's answer: one that a crash forgot is fenced off by its token. Where the task
   * has ended meanwhile, neither happens.
   */
  function offer(queued: QueuedTask, choice: Choice) {
    const attempt = newAttempt(queued, choice)
    const gpus = storedGpusOf(queued.wanted, choice)
    const active = activate(queued, { attempt, gpus, fileBytes: new Map(), unfinishedFiles: new Set() })
    ask(active).catch((error: unknown) => {
      context.log.error({ error, task_id: active.task.id }, 'a task could not be read')
      unanswered(active, 'The market could not read the task.')
    })
  }

  async function ask(active: ActiveAttempt) {
    const input = await attempts.inputOf(active.task.id)
    if (input === null || !isOpen(active)) return
    const start = startMessage(active, input)
    if (start === null) return unanswered(active, 'A GPU of it was removed from the market.')
    if (!send(active.attempt.agent_id, start)) return unanswered(active, 'The agent is not connected.')
    expectAnswer(active)
  }

  /** The agent has a few seconds from now. */
  function expectAnswer(active: ActiveAttempt) {
    stopTimers(active)
    const late = () => unanswered(active, 'The agent did not answer in time.', 'accept_timeout')
    active.timers.push(clock.after(config.timing.acceptMs, late))
  }

  /** Who is silent is not asked again for a while; where it was not asked at all, that is no fault of its. */
  const unanswered = (active: ActiveAttempt, message: string, code = 'not_asked') =>
    endings.persist(active, () => noAnswer(active, { code, message, decided_by: 'platform' }))

  function newAttempt({ task, offers, wanted }: QueuedTask, { gpus }: Choice): StoredAttempt {
    const gpu = gpus[0]!
    return {
      id: newId(context, 'attempt'),
      task_id: task.id,
      gpu_id: gpu.id,
      agent_id: gpu.agentId!,
      provider_id: gpu.ownerId,
      number: offers + 1,
      fencing_token: Buffer.from(context.random.bytes(16)).toString('hex'),
      status: 'offered',
      progress: null,
      price_per_hour: priceTogether(gpus.map((each) => priceOn(wanted, each))),
      run_ms: 0,
      cost: 0 as Micros,
      output_length: 0,
      output_bytes: 0,
      log_lines: 0,
      end: null,
      trial: gpus.some(isOnTrial),
      expected_run_ms: null,
      slow: false,
      offered_at: nowIso(context),
      accepted_at: null,
      ready_at: null,
      ended_at: null,
    }
  }

  /** Takes an attempt into the book: a new one, or one that the database had. */
  function activate(queued: QueuedTask, { attempt, gpus, fileBytes, unfinishedFiles }: Known): ActiveAttempt {
    const { task, wanted } = queued
    const gpu = registry.get(attempt.gpu_id)
    const active: ActiveAttempt = {
      attempt,
      task,
      queued,
      gpus,
      taken: takenBy(attempt, gpus),
      durationMsMax: Math.max(1, Math.min(task.max_duration_ms, runMsFor(attempt.price_per_hour, task.hold))),
      askedAtMs: Date.parse(attempt.offered_at),
      warmth: attempt.status === 'offered' && gpu ? warmthOn(wanted, gpu) : null,
      status: attempt.status,
      beginning: null,
      readyAtMs: attempt.ready_at === null ? null : Date.parse(attempt.ready_at),
      reportedRunMs: attempt.run_ms,
      outputLength: attempt.output_length,
      outputBytes: attempt.output_bytes,
      fileBytes,
      unfinishedFiles,
      isResultAnnounced: false,
      logLines: attempt.log_lines,
      logBytes: 0,
      pieces: 0,
      filesOnTheirWay: new Map(),
      ending: null,
      standing: 'open',
      timers: [],
      retries: new Set(),
    }
    book.add(active)
    return active
  }

  /** Null: one of its GPUs is not there any more. */
  function startMessage(
    { attempt, task, queued, taken, durationMsMax }: ActiveAttempt,
    input: NonNullable<Task['input_data']>,
  ): ServerMessageOf<'attempt.start'> | null {
    const { part } = queued.wanted
    const vram_mib = part === null ? null : Math.max(1, Math.floor(part.vramGb * 1_024))
    const devices = taken.flatMap(({ gpuId, milli }) => {
      const uuid = registry.get(gpuId)?.deviceUuid ?? null
      return uuid === null ? [] : [{ uuid, milli, vram_mib }]
    })
    if (devices.length < taken.length) return null
    return {
      type: 'attempt.start',
      attempt_id: attempt.id,
      fencing_token: attempt.fencing_token,
      task_id: task.id,
      devices,
      task_type: task.task_type,
      input,
      model: queued.wanted.model,
      duration_ms_max: durationMsMax,
      deadline_in_ms: deadlineInMs(config.timing),
      output_bytes_max: config.limits.outputBytesMax,
    }
  }

  async function noAnswer(active: ActiveAttempt, end: End) {
    while (active.ending) await active.ending
    if (active.status !== 'offered' || !isOpen(active)) return
    await endings.failProvider(active, { status: 'refused', end })
    endings.stop(active, end.message)
  }

  return { offer, activate, expectAnswer }
}

/** What is stored of them: nothing of one whole GPU, which the attempt names. */
function storedGpusOf(wanted: Wanted, { gpus, milliEach }: Choice): StoredAttemptGpu[] {
  if (wanted.gpus === 1 && wanted.part === null) return []
  return gpus.map((gpu) => ({
    gpu_id: gpu.id,
    milli: milliEach,
    vram_gb: wanted.part?.vramGb ?? null,
    price_per_hour: priceOn(wanted, gpu),
  }))
}

function takenBy({ gpu_id }: StoredAttempt, gpus: readonly StoredAttemptGpu[]): ActiveAttempt['taken'] {
  if (gpus.length === 0) return [{ gpuId: gpu_id, milli: wholeMilli }]
  return gpus.map(({ gpu_id: gpuId, milli }) => ({ gpuId, milli }))
}
