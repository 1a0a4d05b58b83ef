import type { Timing } from '../config.ts'
import type { Clock } from '../context.ts'
import type { MarketGpu } from '../gpus/gpu-registry.ts'
import { type ActiveAttempt, type AttemptBook, milliOf } from './attempt-book.ts'
import { expectedLoadMs } from './expected-cost.ts'
import type { Occupant } from './room-spot.ts'
import type { QueuedTask } from './task-queue.ts'

type Outside = { clock: Pick<Clock, 'now'>; config: { timing: Pick<Timing, 'acceptMs' | 'deadMs'> } }
type Parts = { book: Pick<AttemptBook, 'ofGpu'> }
export type ExpectedEnds = ReturnType<typeof createExpectedEnds>

/**
 * When attempts end. At the latest: their maximum, which the market sees to, from when they are ready, which is expected where it
 * is not so yet. As things go: after what such tasks took lately; where that is not known, or it has taken longer already, at the
 * latest.
 */
export function createExpectedEnds({ clock, config }: Outside, { book }: Parts) {
  const { acceptMs, deadMs } = config.timing

  function occupant(active: ActiveAttempt, gpu: MarketGpu): Occupant {
    const nowMs = clock.now()
    const { wanted } = active.queued
    const milli = milliOf(active, gpu.id)
    // Its GPU is free as soon as the agent confirms, or is dead.
    if (active.standing !== 'open') return { milli, expectedEndMs: nowMs, latestEndMs: nowMs + deadMs }
    const askedMs = active.askedAtMs
    const latestReadyMs = active.readyAtMs ?? Math.max(nowMs, askedMs + gettingReadyMs(active.queued, gpu))
    const latestEndMs = Math.max(nowMs, latestReadyMs + active.durationMsMax)
    const loadMs = expectedLoadMs(wanted, gpu, active.warmth ?? 'absent')
    const readyMs = active.readyAtMs ?? Math.max(nowMs, askedMs + loadMs)
    const usualEndMs = readyMs + (wanted.timings?.runMs(wanted, gpu) ?? Infinity)
    return { milli, latestEndMs, expectedEndMs: usualEndMs > nowMs ? Math.min(usualEndMs, latestEndMs) : latestEndMs }
  }

  /** No limit is near: fetching may take an hour. So this is what it usually takes where nothing is at hand. */
  const gettingReadyMs = ({ wanted }: QueuedTask, gpu: MarketGpu) => acceptMs + expectedLoadMs(wanted, gpu, 'absent')

  return {
    occupantsOf: (gpu: MarketGpu): Occupant[] => book.ofGpu(gpu.id).map((active) => occupant(active, gpu)),
    /** When it would have ended at the latest, if this GPU were asked now. */
    latestEndMs: (queued: QueuedTask, gpu: MarketGpu) =>
      clock.now() + gettingReadyMs(queued, gpu) + queued.task.max_duration_ms,
  }
}
