/** Time as the agent sees it. It comes in from outside, so that a test or a simulation can own it. */
export interface Clock {
  /** Milliseconds since 1970. */
  now(): number
  /** Resolves after `ms`; rejects with the signal's reason as soon as the signal aborts. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>
}

/** A clock that also measures: nobody can set this one. */
export interface MonotonicClock extends Clock {
  /** Milliseconds since some moment, never going back. It may stand still while the machine is asleep. */
  monotonicMs(): number
}

/** A moment by both clocks. */
export type Moment = { readonly nowMs: number; readonly monotonicMs: number }

export function momentNow(clock: MonotonicClock): Moment {
  return { nowMs: clock.now(), monotonicMs: clock.monotonicMs() }
}

/**
 * Time since a moment, by whichever clock says more: the monotonic one knows of no corrections, the other one of the time
 * that the machine was asleep. For deadlines, where too early is harmless and too late is not.
 */
export function elapsedMsAtLeast(clock: MonotonicClock, since: Moment): number {
  return Math.max(clock.monotonicMs() - since.monotonicMs, clock.now() - since.nowMs)
}
