import type { SimulatedClock } from './simulated-clock.ts'

/**
 * A process that can be killed wherever it waits, and frozen. Whatever reaches it (a timer, a packet, an answer of the disk)
 * goes through `run`: a dead process never hears of it, a frozen one when it thaws. So a killed generation's promises never
 * resolve and its timers never fire. Whatever it does to the world asks `crosses` first: there it may die in the middle of a
 * handler, between two steps that no event separates.
 */
export type SimulatedProcess = {
  readonly name: string
  isAlive(): boolean
  isFrozen(): boolean
  run(work: () => void): void
  after(delayMs: number, work: () => void): () => void
  /** Resolves after `delayMs`, unless it is killed. */
  pause(delayMs: number): Promise<void>
  /** What `promise` becomes, told to the world after `delayMs`; nothing where the process dies before it could tell. */
  answer<T>(promise: Promise<T>, tell: (outcome: Outcome<T>) => void, delayMs: number): void
  /** It reaches out of itself, or hears back from there. False: it is dead, and has no effect any more. */
  crosses(): boolean
  /** Calls `die` when it has reached out so many times more. */
  dieAfter(crossings: number, die: () => void): void
  kill(): void
  freeze(): void
  /** `sleptMs`: the whole machine was asleep for so long, its timers too. */
  thaw(sleptMs?: number): void
  /** How long its machine has been asleep since it was started. */
  sleptMs(): number
}
export type Outcome<T> = { readonly value: T } | { readonly error: unknown }

/** What a dead process waits for. */
export const never = <T>() => new Promise<T>(() => {})

export function simulatedProcess(clock: SimulatedClock, name: string): SimulatedProcess {
  let alive = true
  let frozen = false
  let sleptMs = 0
  let doom: { crossings: number; die: () => void } | null = null
  const backlog: (() => void)[] = []

  function run(work: () => void) {
    if (!alive) return
    if (frozen) backlog.push(work)
    else work()
  }
  const after = (delayMs: number, work: () => void) => {
    let cancelled = false
    let cancel = () => {}
    /** While the machine sleeps its timers stand still: what was left of them is left when it wakes. */
    const arm = (restMs: number, armedAtMs: number) => {
      const dueMs = clock.nowMs() + restMs
      const due = () => {
        if (cancelled) return
        if (sleptMs > armedAtMs) arm(Math.max(0, dueMs + sleptMs - armedAtMs - clock.nowMs()), sleptMs)
        else work()
      }
      cancel = clock.after(restMs, () => run(due))
    }
    arm(delayMs, sleptMs)
    return () => {
      cancelled = true
      cancel()
    }
  }

  return {
    name,
    isAlive: () => alive,
    isFrozen: () => frozen,
    run,
    after,
    pause: (delayMs) => new Promise((resolve) => after(delayMs, resolve)),
    answer(promise, tell, delayMs) {
      const say = <T>(outcome: Outcome<T>, to: (outcome: Outcome<T>) => void) =>
        alive && clock.after(delayMs, () => to(outcome))
      promise.then(
        (value) => say({ value }, tell),
        (error: unknown) => say({ error }, tell),
      )
    },
    crosses() {
      if (doom && alive && --doom.crossings <= 0) {
        const { die } = doom
        doom = null
        die()
      }
      return alive
    },
    dieAfter: (crossings, die) => void (doom = { crossings, die }),
    kill() {
      alive = false
      backlog.length = 0
    },
    freeze() {
      frozen = true
    },
    sleptMs: () => sleptMs,
    thaw(asleepMs = 0) {
      if (!frozen) return
      frozen = false
      sleptMs += asleepMs
      // Each in a step of its own, before anything that arrives from now on.
      for (const work of backlog.splice(0)) clock.after(0, () => run(work))
    },
  }
}
