import { type AgentMessageOf, type End, wholeMilli } from '@orbyte/protocol'
import type { Context } from '../context.ts'
import type { GpuRegistry } from '../gpus/gpu-registry.ts'
import { workOf } from '../speeds/speed-work.ts'
import type { AttemptService } from '../tasks/attempt-service.ts'
import { NotKeptError } from '../tasks/reported.ts'
import {
  type ActiveAttempt,
  type AttemptBook,
  type AttemptRef,
  isGeneration,
  isOpen,
  outputBytesOf,
  stopTimers,
} from './attempt-book.ts'
import type { AttemptEndings } from './attempt-endings.ts'
import { takeFileChunk } from './attempt-files.ts'
import type { AttemptLimits } from './attempt-limits.ts'
import { outputProblem } from './output-check.ts'

export type AttemptReports = ReturnType<typeof createAttemptReports>

type Parts = {
  book: AttemptBook
  registry: GpuRegistry
  attempts: AttemptService
  endings: AttemptEndings
  limits: AttemptLimits
}

type Heard = Pick<ActiveAttempt, 'status' | 'outputLength' | 'logLines'>

/**
 * What agents say about attempts. Each function resolves once what it was told is durable, so that the message may be
 * acknowledged; a stale or repeated message resolves without any effect. One that cannot be written rejects and leaves memory as
 * it was, so that the agent can say it again.
 */
export function createAttemptReports(context: Context, { book, registry, attempts, endings, limits }: Parts) {
  const { clock, config } = context

  /**
   * Handles a message about an attempt that is open; of any other it is stale. An end that is on its way is waited for: should it
   * fail, what the agent has said meanwhile counts.
   */
  function whileOpen<M extends AttemptRef>(handle: (active: ActiveAttempt, message: M) => Promise<void>) {
    return async (agentId: string, message: M): Promise<void> => {
      const active = book.find(agentId, message)
      while (active?.ending) await active.ending
      if (isOpen(active)) await handle(active, message)
    }
  }

  async function accepted(active: ActiveAttempt) {
    if (active.status !== 'offered') return
    const { attempt, taken } = active
    stopTimers(active)
    // First, so that whoever hears of the reservation counts what it has once: not as offered too.
    active.status = 'accepted'
    if (!registry.reserve(attempt.id, taken)) {
      active.status = 'offered'
      const isHeld = taken.some(({ gpuId, milli }) => (registry.get(gpuId)?.takenMilli ?? 0) + milli > wholeMilli)
      const end: End = isHeld
        ? { code: 'gpu_in_use', message: 'Another attempt had taken the GPU meanwhile.', decided_by: 'platform' }
        : { code: 'gpu_removed', message: 'The GPU was removed from the market meanwhile.', decided_by: 'provider' }
      await endings.failProvider(active, { status: 'refused', end })
      return endings.stop(active, end.message)
    }
    limits.watch(active)
    const beginning = { acceptedAtMs: clock.now(), readyAtMs: null, isWritten: false }
    const kept = attempts.accept(active, beginning)
    active.beginning = Object.assign(beginning, { kept })
    try {
      if (!(await kept)) endings.stop(active, 'the attempt has ended')
    } catch (error) {
      stopTimers(active)
      active.status = 'offered'
      registry.release(attempt.id, taken)
      throw error
    } finally {
      active.beginning = null
    }
  }

  async function refused(active: ActiveAttempt, message: AgentMessageOf<'attempt.refused'>) {
    if (active.status !== 'offered') return
    const end: End = { code: message.code, message: message.message, decided_by: 'agent' }
    await endings.failProvider(active, { status: 'refused', end })
    endings.free(active)
  }

  async function preparing(active: ActiveAttempt, message: AgentMessageOf<'attempt.preparing'>) {
    if (!['accepted', 'preparing'].includes(active.status) || !isKeepable(active)) return
    active.status = 'preparing'
    await attempts.prepare(active, message.progress)
  }

  /** The meter starts here, at the server's own time of hearing it. */
  async function ready(active: ActiveAttempt) {
    if (!['accepted', 'preparing'].includes(active.status)) return
    const { status, beginning } = active
    active.status = 'running'
    active.readyAtMs = clock.now()
    limits.watch(active)
    try {
      if (beginning?.isWritten === false) {
        beginning.readyAtMs = active.readyAtMs
        await beginning.kept
      } else await attempts.ready(active, active.readyAtMs)
    } catch (error) {
      // Its acceptance may have failed with it, and was undone first: then it is on offer again, and stays so.
      if (active.status === 'running') active.status = status
      active.readyAtMs = null
      limits.watch(active)
      throw error
    }
  }

  /** Each piece is an event: a million short ones would fill the disk with next to nothing. */
  const isKeepable = (active: ActiveAttempt) => active.pieces++ < config.limits.piecesPerAttemptMax

  async function tooLarge(active: ActiveAttempt, claimedMs: number, problem: string) {
    const end: End = { code: 'output_too_large', message: `Stopped: ${problem}.`, decided_by: 'platform' }
    await endings.failRenter(active, { claimedMs, end })
    endings.stop(active, problem)
  }

  /** An end that is on its way to the disk may fail, too. */
  async function staysOpen(active: ActiveAttempt): Promise<boolean> {
    while (active.ending) await active.ending
    return isOpen(active)
  }

  async function output(active: ActiveAttempt, message: AgentMessageOf<'attempt.output'>) {
    if (active.status !== 'running') return
    const text = message.text.slice(Math.max(0, active.outputLength - message.offset))
    if (message.offset > active.outputLength || text === '') return
    if (!isKeepable(active))
      return tooLarge(active, message.run_ms, `the output is more than ${config.limits.piecesPerAttemptMax} pieces`)
    const bytes = Buffer.byteLength(text)
    if (outputBytesOf(active) + bytes > config.limits.outputBytesMax)
      return tooLarge(active, message.run_ms, `the output is larger than ${config.limits.outputBytesMax} bytes`)
    const offset = active.outputLength
    active.outputLength += text.length
    active.outputBytes += bytes
    const runMs = endings.noteRun(active, message.run_ms)
    try {
      const isKept = await attempts.output(active, { offset, text, runMs })
      if (!isKept && (await staysOpen(active)))
        throw new NotKeptError(`what ${active.attempt.id} put out before ${offset} is not kept`)
    } catch (error) {
      active.outputLength = Math.min(active.outputLength, offset)
      active.outputBytes -= bytes
      throw error
    }
  }

  async function log(active: ActiveAttempt, message: AgentMessageOf<'attempt.log'>) {
    const offset = active.logLines
    const lines = message.lines.slice(
      Math.max(0, offset - message.offset),
      config.limits.logLinesPerTaskMax - message.offset,
    )
    if (message.offset > offset || lines.length === 0) return
    const bytes = Buffer.byteLength(lines.join('\n'))
    if (active.logBytes + bytes > config.limits.logBytesPerAttemptMax || !isKeepable(active)) return
    active.logLines += lines.length
    active.logBytes += bytes
    const runMs = endings.noteRun(active, message.run_ms)
    try {
      const isKept = await attempts.log(active, { offset, lines, runMs })
      if (!isKept && (await staysOpen(active)))
        throw new NotKeptError(`the log of ${active.attempt.id} before line ${offset} is not kept`)
    } catch (error) {
      active.logLines = Math.min(active.logLines, offset)
      active.logBytes -= bytes
      throw error
    }
  }

  function file(active: ActiveAttempt, message: AgentMessageOf<'attempt.file'>): Promise<void> {
    if (active.status !== 'running') return Promise.resolve()
    const { name } = message
    const earlier = active.filesOnTheirWay.get(name) ?? Promise.resolve()
    const kept = earlier.then(() => keepFile(active, message))
    active.filesOnTheirWay.set(name, kept)
    const forget = () => active.filesOnTheirWay.get(name) === kept && active.filesOnTheirWay.delete(name)
    kept.then(forget, forget)
    return kept
  }

  async function keepFile(active: ActiveAttempt, message: AgentMessageOf<'attempt.file'>) {
    const runMs = endings.noteRun(active, message.run_ms)
    const isNew = !active.fileBytes.has(message.name)
    const found = await takeFileChunk(config.limits, attempts, { active, message, runMs })
    if (!isOpen(active)) return
    if (found === 'whole') active.unfinishedFiles.delete(message.name)
    if (found === 'unfinished' && isNew) limits.expectFile(active, message.name)
    if (found === 'whole' || found === 'unfinished') return
    if (found.fault === 'renter') return tooLarge(active, active.reportedRunMs, found.problem)
    const end: End = { code: 'invalid_output', message: `Stopped: ${found.problem}.`, decided_by: 'platform' }
    await endings.failProvider(active, { status: 'failed', end })
    endings.stop(active, found.problem)
  }

  async function result(agentId: string, message: AgentMessageOf<'attempt.result'>) {
    const active = book.find(agentId, message)
    if (!active) return
    // What came before the result and waits comes first now too: none of it may be overtaken.
    while (active.ending) await active.ending
    const { status, outputLength, logLines } = active
    await Promise.all(active.filesOnTheirWay.values())
    await end(active, message, { status, outputLength, logLines })
    endings.free(active)
  }

  /** `heard`: how far the attempt was when the result came, by all that had been reported before. */
  async function end(active: ActiveAttempt, message: AgentMessageOf<'attempt.result'>, heard: Heard) {
    const work = isGeneration(active) && message.outcome === 'completed' ? await attempts.workOf(active) : null
    while (active.ending) await active.ending
    if (!isOpen(active)) return
    if (active.status !== heard.status || active.outputLength < heard.outputLength || active.logLines < heard.logLines)
      throw new NotKeptError(`not all that was reported of ${active.attempt.id} before its result is kept`)
    const { outcome, run_ms: claimedMs, fault } = message
    const end: End = { code: message.code, message: message.message, decided_by: 'agent' }
    if (active.status === 'offered') return endings.failProvider(active, { status: 'refused', end })
    if (outcome === 'failed' && fault === 'renter') return endings.failRenter(active, { claimedMs, end })
    if (outcome !== 'completed') return endings.failProvider(active, { status: 'failed', end })
    const { task_type: taskType } = active.task
    const { input, files } = work ?? { input: null, files: [] }
    const { output_data: outputData } = message
    const problem =
      active.status !== 'running'
        ? 'The result came before the GPU was ready.'
        : outputProblem({ taskType, input, output: outputData, files })
    const done = input && outputData && problem === null ? workOf({ taskType, input, output: outputData }) : null
    if (problem === null) return endings.complete(active, { claimedMs, outputData, work: done })
    const invalid: End = { code: 'invalid_output', message: problem, decided_by: 'platform' }
    return endings.failProvider(active, { status: 'failed', end: invalid })
  }

  /** Keeps how long each attempt has run. Resolves with those that the agent is to go on with. */
  async function ticks(agentId: string, reported: AgentMessageOf<'heartbeat'>['attempts']) {
    const found = reported.map((ref) => ({ ref, active: book.find(agentId, ref) }))
    const running = found.flatMap(({ ref, active }) =>
      isOpen(active) && active.status === 'running'
        ? [{ attempt: active.attempt, runMs: endings.noteRun(active, ref.run_ms) }]
        : [],
    )
    if (running.length > 0) await attempts.tick(running)
    return found.filter(({ active }) => active?.standing === 'open').map(({ ref }) => ref)
  }

  return {
    accepted: whileOpen<AgentMessageOf<'attempt.accepted'>>(accepted),
    refused: whileOpen(refused),
    preparing: whileOpen(preparing),
    ready: whileOpen<AgentMessageOf<'attempt.ready'>>(ready),
    output: whileOpen(output),
    log: whileOpen(log),
    file: whileOpen(file),
    result,
    ticks,
  }
}
