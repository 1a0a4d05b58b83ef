import { setImmediate as turnOfTheLoop } from 'node:timers/promises'
import type { MonotonicClock } from './clock.ts'

/** A clock for tests: it stands still until it is moved. */
export type ManualClock = MonotonicClock & {
  /** Wakes all who are due by then, each at its own time. */
  advance(ms: number): Promise<void>
}

type Sleeper = { readonly dueMs: number; wake(): void }

export function manualClock(startMs = Date.UTC(2026, 2, 4, 12)): ManualClock {
  let nowMs = startMs
  const sleepers = new Set<Sleeper>()
  return {
    now: () => nowMs,
    monotonicMs: () => nowMs - startMs,
    async sleep(ms, signal) {
      signal?.throwIfAborted()
      if (ms <= 0) return void (await turnOfTheLoop())
      const woken = new AbortController()
      await new Promise<void>((resolve, reject) => {
        const sleeper = { dueMs: nowMs + ms, wake: resolve }
        sleepers.add(sleeper)
        const onAbort = () => {
          sleepers.delete(sleeper)
          reject(signal?.reason as Error)
        }
        signal?.addEventListener('abort', onAbort, { signal: woken.signal })
      }).finally(() => woken.abort())
    },
    async advance(ms) {
      const untilMs = nowMs + ms
      while (true) {
        // What one of them does, it does before time goes on.
        for (let turn = 0; turn < 3; turn++) await turnOfTheLoop()
        const [next] = [...sleepers].sort((first, second) => first.dueMs - second.dueMs)
        if (next === undefined || next.dueMs > untilMs) break
        sleepers.delete(next)
        nowMs = Math.max(nowMs, next.dueMs)
        next.wake()
      }
      nowMs = untilMs
      await turnOfTheLoop()
    },
  }
}
