import { setTimeout as sleepFor } from 'node:timers/promises'
import type { MonotonicClock } from './clock.ts'

/** Longer than this is no delay for a timer of Node's: it would fire at once. */
const timerMsMax = 2 ** 31 - 1

/** The machine's own clock. */
export const systemClock: MonotonicClock = {
  now: () => Date.now(),
  monotonicMs: () => performance.now(),
  async sleep(ms, signal) {
    signal?.throwIfAborted()
    try {
      await sleepFor(Math.min(ms, timerMsMax), undefined, { signal })
    } catch (error) {
      throw signal?.aborted ? signal.reason : error
    }
  },
}
