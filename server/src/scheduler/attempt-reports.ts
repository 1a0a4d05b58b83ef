import { type AgentMessageOf, type End, taskOutputs } from '@orbyte/protocol'
import type { Context } from '../context.ts'
import type { GpuRegistry } from '../gpus/gpu-registry.ts'
import type { AttemptService } from '../tasks/attempt-service.ts'
import { type ActiveAttempt, type AttemptBook, stopTimers } from './attempt-book.ts'
import type { AttemptEndings } from './attempt-endings.ts'
import { createFileAssembly } from './attempt-files.ts'

export type AttemptReports = ReturnType<typeof createAttemptReports>

type Parts = { book: AttemptBook; registry: GpuRegistry; attempts: AttemptService; endings: AttemptEndings }

/**
 * What agents say about attempts. Each function resolves once what it was told is durable, so that the message may be
 * acknowledged; a stale or repeated message resolves without any effect.
 */
export function createAttemptReports(context: Context, { book, registry, attempts, endings }: Parts) {
  const { clock, config } = context
  const files = createFileAssembly()

  function isOpen(active: ActiveAttempt | null): active is ActiveAttempt {
    return active !== null && !active.stopped && active.ending === null
  }

  async function accepted(agentId: string, message: AgentMessageOf<'attempt.accepted'>) {
    const active = book.find(agentId, message)
    if (!isOpen(active) || active.status !== 'offered') return
    const { attempt } = active
    stopTimers(active)
    if (!registry.reserve(attempt.gpu_id, attempt.id)) {
      const end: End = { code: 'gpu_in_use', message: 'The GPU had been taken meanwhile.', decided_by: 'platform' }
      await endings.failProvider(active, { status: 'refused', end })
      return endings.stop(active, 'the GPU is held by another attempt')
    }
    active.status = 'accepted'
    active.timers.push(clock.after(config.timing.prepareMs, () => void prepareTimedOut(active)))
    await attempts.accept(active)
  }

  async function prepareTimedOut(active: ActiveAttempt) {
    const message = 'The GPU did not get ready in time.'
    await endings.failProvider(active, {
      status: 'failed',
      end: { code: 'prepare_timeout', message, decided_by: 'platform' },
    })
    endings.stop(active, 'it took too long to get ready')
  }

  async function refused(agentId: string, message: AgentMessageOf<'attempt.refused'>) {
    const active = book.find(agentId, message)
    if (!isOpen(active) || active.status !== 'offered') return
    const end: End = { code: message.code, message: message.message, decided_by: 'agent' }
    await endings.failProvider(active, { status: 'refused', end })
    book.remove(active)
  }

  async function preparing(agentId: string, message: AgentMessageOf<'attempt.preparing'>) {
    const active = book.find(agentId, message)
    if (!isOpen(active) || !['accepted', 'preparing'].includes(active.status)) return
    active.status = 'preparing'
    await attempts.prepare(active, message.progress)
  }

  /** The meter starts here, at the server's own time of hearing it. */
  async function ready(agentId: string, message: AgentMessageOf<'attempt.ready'>) {
    const active = book.find(agentId, message)
    if (!isOpen(active) || !['accepted', 'preparing'].includes(active.status)) return
    active.status = 'running'
    active.readyAtMs = clock.now()
    stopTimers(active)
    // The agent ends a run at its maximum; this is for one that does not.
    active.timers.push(clock.after(active.durationMsMax + config.timing.unknownMs, () => void overran(active)))
    await attempts.ready(active, active.readyAtMs)
  }

  async function overran(active: ActiveAttempt) {
    const message = `It ran longer than the ${Math.round(active.durationMsMax / 1_000)} s that it may.`
    const end: End = { code: 'max_duration', message, decided_by: 'platform' }
    await endings.failRenter(active, { claimedMs: active.durationMsMax, end })
    endings.stop(active, message)
  }

  async function tooLarge(active: ActiveAttempt, claimedMs: number, problem: string) {
    const end: End = { code: 'output_too_large', message: `Stopped: ${problem}.`, decided_by: 'platform' }
    await endings.failRenter(active, { claimedMs, end })
    endings.stop(active, problem)
  }

  async function output(agentId: string, message: AgentMessageOf<'attempt.output'>) {
    const active = book.find(agentId, message)
    if (!isOpen(active) || active.status !== 'running') return
    const text = message.text.slice(Math.max(0, active.outputLength - message.offset))
    if (message.offset > active.outputLength || text === '') return
    const bytes = Buffer.byteLength(text)
    if (active.outputBytes + bytes > config.limits.outputBytesMax)
      return tooLarge(active, message.run_ms, `the output is larger than ${config.limits.outputBytesMax} bytes`)
    const offset = active.outputLength
    active.outputLength += text.length
    active.outputBytes += bytes
    const runMs = endings.evidence(active, message.run_ms)
    await attempts.output(active, { offset, text, runMs })
  }

  async function log(agentId: string, message: AgentMessageOf<'attempt.log'>) {
    const active = book.find(agentId, message)
    if (!isOpen(active)) return
    const room = config.limits.logLinesPerTaskMax - active.logLines
    const lines = message.lines.slice(0, Math.max(0, room))
    if (lines.length === 0) return
    active.logLines += lines.length
    await attempts.log(active, lines)
  }

  async function file(agentId: string, message: AgentMessageOf<'attempt.file'>) {
    const active = book.find(agentId, message)
    if (!isOpen(active) || active.status !== 'running') return
    const { name, mime_type, size_bytes, sha256 } = message
    const whole = files.add(message, config.limits.outputBytesMax - active.outputBytes)
    if (whole === null) return
    if ('problem' in whole)
      return tooLarge(active, endings.evidence(active, config.limits.outputBytesMax), whole.problem)
    active.outputBytes += size_bytes
    const before = active.filesKept.catch(() => {})
    active.filesKept = (async () => {
      await before
      await context.files.put(sha256, whole)
      await attempts.file(active, { name, mime_type, size_bytes, sha256 })
    })()
    await active.filesKept
  }

  async function result(agentId: string, message: AgentMessageOf<'attempt.result'>) {
    const active = book.find(agentId, message)
    if (!active) return
    files.forget(active.attempt.id)
    await active.filesKept
    if (active.ending) await active.ending
    if (active.stopped) return endings.free(active)
    const claimedMs = message.run_ms
    const end: End = { code: message.code, message: message.message, decided_by: 'agent' }
    if (message.outcome === 'completed' && active.status === 'running') {
      const parsed = taskOutputs[active.task.task_type].safeParse(message.output_data)
      if (parsed.success) return endings.complete(active, { claimedMs, outputData: message.output_data })
      const problem = 'The result does not have the form that its task type promises.'
      await endings.failProvider(active, {
        status: 'failed',
        end: { code: 'invalid_output', message: problem, decided_by: 'platform' },
      })
    } else if (message.outcome === 'failed' && message.fault === 'renter')
      await endings.failRenter(active, { claimedMs, end })
    else await endings.failProvider(active, { status: 'failed', end })
    endings.free(active)
  }

  /** Keeps how long each attempt has run. Resolves with those that the agent is to go on with. */
  async function ticks(agentId: string, reported: AgentMessageOf<'heartbeat'>['attempts']) {
    const kept = reported.filter((ref) => isOpen(book.find(agentId, ref)))
    const running = kept.filter((ref) => book.find(agentId, ref)!.status === 'running')
    const ticks = running.map((ref) => ({
      attemptId: ref.attempt_id,
      runMs: endings.evidence(book.find(agentId, ref)!, ref.run_ms),
    }))
    if (ticks.length > 0) await attempts.tick(ticks)
    return kept
  }

  return { accepted, refused, preparing, ready, output, log, file, result, ticks }
}
