import type { Clock } from '../context.ts'

/** The part of a socket that can be read from, or not. */
export type Readable = { pause(): void; resume(): void }
export type Valve = ReturnType<typeof createValve>

/** Reads from a socket unless there is a reason not to; there may be several at once. */
export function createValve(socket: Readable) {
  const reasons = new Set<string>()
  return {
    shut(reason: string) {
      if (reasons.size === 0) socket.pause()
      reasons.add(reason)
    },
    open(reason: string) {
      if (reasons.delete(reason) && reasons.size === 0) socket.resume()
    },
  }
}

/** Seconds' worth of messages that may come at once. */
const burstSeconds = 10

/**
 * Lets `perSecond` messages through on average (a token bucket). Who sends more is read more slowly, and waits: nothing is lost,
 * and nobody else waits with them. 0: as many as come.
 */
export function createThrottle(clock: Clock, valve: Valve, perSecond: number) {
  const most = perSecond * burstSeconds
  let tokens = most
  let filledMs = clock.now()
  let cancel = () => {}
  return {
    /** A message has arrived. */
    count() {
      if (perSecond === 0) return
      const nowMs = clock.now()
      tokens = Math.min(most, tokens + ((nowMs - filledMs) * perSecond) / 1_000) - 1
      filledMs = nowMs
      if (tokens >= 0) return
      valve.shut('throttle')
      cancel()
      cancel = clock.after(Math.ceil((-tokens / perSecond) * 1_000), () => valve.open('throttle'))
    },
    stop: () => cancel(),
  }
}
