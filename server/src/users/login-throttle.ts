import { problem } from '@orbyte/protocol'
import type { Clock } from '../context.ts'

const freeFailures = 10
const windowMs = 15 * 60_000
const waitMsFirst = 1_000
/** Long enough that guessing is hopeless, short enough that guessing cannot lock the owner out for good. */
const waitMsMax = 5 * 60_000
/** Bounds the memory that guesses at many addresses take. */
const addressesMax = 10_000

type Attempts = { failures: number; lastMs: number; openFromMs: number }

export type LoginThrottle = ReturnType<typeof createLoginThrottle>

/**
 * Slows down guesses at one account's password, from however many machines: after 10 failures each further one doubles the
 * wait, from a second to five minutes. 15 minutes without an attempt, or the right password, forget it all.
 */
export function createLoginThrottle(clock: Pick<Clock, 'now'>) {
  const attemptsByEmail = new Map<string, Attempts>()
  return {
    /** Counts an attempt as failed until `succeed`, so that many at once are as many failures. Throws `rate_limited`. */
    begin(email: string): void {
      const nowMs = clock.now()
      const found = attemptsByEmail.get(email)
      const before =
        found && nowMs - found.lastMs < windowMs ? found : { failures: 0, lastMs: nowMs, openFromMs: nowMs }
      if (nowMs < before.openFromMs) throw tooMany(before.openFromMs - nowMs)
      const failures = before.failures + 1
      // Moved to the end: the address that was tried longest ago is the one to forget.
      attemptsByEmail.delete(email)
      attemptsByEmail.set(email, { failures, lastMs: nowMs, openFromMs: nowMs + waitMsAfter(failures) })
      if (attemptsByEmail.size > addressesMax) attemptsByEmail.delete(attemptsByEmail.keys().next().value!)
    },
    succeed(email: string): void {
      attemptsByEmail.delete(email)
    },
  }
}

function waitMsAfter(failures: number): number {
  if (failures < freeFailures) return 0
  return Math.min(waitMsMax, waitMsFirst * 2 ** Math.min(30, failures - freeFailures))
}

function tooMany(waitMs: number) {
  const seconds = Math.ceil(waitMs / 1_000)
  return problem('rate_limited', `Too many wrong passwords for this account. Try again in ${seconds} s.`, {
    retry_after_s: seconds,
  })
}
