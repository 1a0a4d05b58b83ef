import type { Clock } from './context.ts'

export type ManualClock = Clock & {
  /** Moves time forward, firing what is due in order, each at its own time. */
  advance(ms: number): void
}

/** A clock that stands still until it is moved: for tests and the simulation. */
export function manualClock(startMs: number): ManualClock {
  let nowMs = startMs
  let made = 0
  const timers = new Map<number, { dueMs: number; run: () => void }>()
  const nextDue = (untilMs: number) => {
    let next: { id: number; dueMs: number } | null = null
    for (const [id, { dueMs }] of timers)
      if (dueMs <= untilMs && (next === null || dueMs < next.dueMs)) next = { id, dueMs }
    return next
  }
  return {
    now: () => nowMs,
    after(delayMs, run) {
      const id = made++
      timers.set(id, { dueMs: nowMs + Math.max(0, delayMs), run })
      return () => timers.delete(id)
    },
    advance(ms) {
      const untilMs = nowMs + ms
      for (let next = nextDue(untilMs); next !== null; next = nextDue(untilMs)) {
        const { run } = timers.get(next.id)!
        timers.delete(next.id)
        nowMs = Math.max(nowMs, next.dueMs)
        run()
      }
      nowMs = untilMs
    },
  }
}
