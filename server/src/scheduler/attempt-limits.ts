import type { End } from '@orbyte/protocol'
import type { Context } from '../context.ts'
import type { GpuRegistry } from '../gpus/gpu-registry.ts'
import { type ActiveAttempt, hasShownWork, isOpen, stopTimers } from './attempt-book.ts'
import type { AttemptEndings } from './attempt-endings.ts'

export type AttemptLimits = ReturnType<typeof createAttemptLimits>

type Parts = { registry: GpuRegistry; endings: AttemptEndings }

/**
 * How long each phase of an attempt may take. To get ready: `prepareMs`. Then, where text streams, until the first of it:
 * `firstOutputMs`. To run: the task's own maximum. For files and a result to arrive, once they are announced: `uploadMs`.
 * What takes longer is ended by the market; all but a run that has shown its work is the provider's failure. (How long a GPU has
 * to accept is attempt-offers.ts's, how long a task waits for one scheduler-service.ts's.)
 */
export function createAttemptLimits({ clock, config }: Context, { registry, endings }: Parts) {
  const { prepareMs, firstOutputMs, uploadMs, unknownMs } = config.timing

  type Limit = { dueMs: number; isOver: () => boolean; end: () => Promise<unknown>; reason: string }

  /** Ends the attempt when its time has come, if it is over then. */
  function limit(active: ActiveAttempt, { dueMs, ...what }: Limit) {
    const judge = async () => {
      while (active.ending) await active.ending
      if (!isOpen(active) || !what.isOver()) return
      // Who is silent may have stopped it in time, or be gone: it comes back with what it has, or it is taken for dead.
      const isHeard = registry.get(active.attempt.gpu_id)?.liveness === 'alive'
      if (!isHeard && active.status === 'running') return limit(active, { dueMs: clock.now() + unknownMs, ...what })
      await what.end()
      endings.stop(active, what.reason)
    }
    const delayMs = Math.max(0, dueMs - clock.now())
    active.timers.push(clock.after(delayMs, () => endings.persist(active, judge)))
  }

  const fails = (active: ActiveAttempt, end: Omit<End, 'decided_by'>) => () =>
    endings.failProvider(active, { status: 'failed', end: { ...end, decided_by: 'platform' } })
  const seconds = (ms: number) => Math.round(ms / 1_000)

  function prepare(active: ActiveAttempt) {
    const message = `The GPU did not get ready in ${seconds(prepareMs)} s.`
    limit(active, {
      dueMs: clock.now() + prepareMs,
      isOver: () => active.status === 'accepted' || active.status === 'preparing',
      end: fails(active, { code: 'prepare_timeout', message }),
      reason: message,
    })
  }

  function firstOutput(active: ActiveAttempt) {
    const message = `It had run for ${seconds(firstOutputMs)} s and put out nothing.`
    limit(active, {
      dueMs: active.readyAtMs! + firstOutputMs,
      isOver: () => !hasShownWork(active),
      end: fails(active, { code: 'no_output', message }),
      reason: message,
    })
  }

  /** The agent ends a run at its maximum; this is for one that does not. */
  function run(active: ActiveAttempt) {
    const message = `It ran longer than the ${seconds(active.durationMsMax)} s that it may.`
    limit(active, {
      dueMs: active.readyAtMs! + active.durationMsMax + unknownMs,
      isOver: () => true,
      end: () =>
        endings.failRenter(active, {
          claimedMs: active.reportedRunMs,
          end: { code: 'max_duration', message, decided_by: 'platform' },
        }),
      reason: message,
    })
  }

  function upload(active: ActiveAttempt, { what, isOver }: { what: string; isOver: () => boolean }) {
    const message = `${what} did not arrive in ${seconds(uploadMs)} s.`
    limit(active, {
      dueMs: clock.now() + uploadMs,
      isOver,
      end: fails(active, { code: 'upload_timeout', message }),
      reason: message,
    })
  }

  const file = (active: ActiveAttempt, name: string) =>
    upload(active, { what: `The rest of ${name}`, isOver: () => active.unfinishedFiles.has(name) })

  const result = (active: ActiveAttempt) =>
    upload(active, { what: 'The result that its agent has', isOver: () => true })

  return {
    /** Begins the limits of the phase that it is in. */
    watch(active: ActiveAttempt) {
      stopTimers(active)
      if (active.isResultAnnounced) result(active)
      if (active.status === 'accepted' || active.status === 'preparing') prepare(active)
      if (active.status !== 'running') return
      if (active.task.task_type === 'text_generation') firstOutput(active)
      run(active)
      for (const name of active.unfinishedFiles) file(active, name)
    },

    /** The first part of a file is here, and others are to come. */
    expectFile(active: ActiveAttempt, name: string) {
      active.unfinishedFiles.add(name)
      file(active, name)
    },

    /** Its agent says that it has ended: the result is to come. */
    expectResult(active: ActiveAttempt) {
      if (active.isResultAnnounced) return
      active.isResultAnnounced = true
      result(active)
    },
  }
}
