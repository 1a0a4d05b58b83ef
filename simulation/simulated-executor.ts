import type { Executor } from '@orbyte/agent/executors/executor.ts'
import { createFakeExecutor } from '@orbyte/agent/executors/fake-executor.ts'
import type { MonotonicClock } from '@orbyte/agent/clock.ts'
import type { SimulatedClock } from './simulated-clock.ts'
import { never, type SimulatedProcess } from './simulated-process.ts'

/** What a GPU really did for an attempt, by the world's own clock, whatever anybody says of it. */
export type TrueRun = {
  readonly attemptId: string
  /** What it has of which devices. */
  readonly devices: readonly { readonly uuid: string; readonly milli: number }[]
  readonly process: SimulatedProcess
  /** How fast the machine's own clock runs. */
  readonly clockRate: number
  readonly startedMs: number
  readyMs: number | null
  endedMs: number | null
  /** It was told to stop: a hung program goes on all the same. */
  isTold: boolean
}

export type TrueRuns = {
  begin(run: Pick<TrueRun, 'attemptId' | 'devices' | 'process' | 'clockRate'>): TrueRun
  of(attemptId: string): readonly TrueRun[]
  /** Those that go on now. */
  open(): TrueRun[]
  /** A dead process runs nothing. */
  died(process: SimulatedProcess): void
  /** Calls back when a GPU takes up an attempt. */
  onBegin(listen: (run: TrueRun, others: readonly TrueRun[]) => void): void
}

export function createTrueRuns(clock: SimulatedClock): TrueRuns {
  const byAttempt = new Map<string, TrueRun[]>()
  let running: TrueRun[] = []
  const listeners: ((run: TrueRun, others: readonly TrueRun[]) => void)[] = []
  const open = () => (running = running.filter(({ endedMs }) => endedMs === null))
  return {
    begin(named) {
      const others = [...open()]
      const run: TrueRun = { ...named, startedMs: clock.nowMs(), readyMs: null, endedMs: null, isTold: false }
      running.push(run)
      byAttempt.set(run.attemptId, [...(byAttempt.get(run.attemptId) ?? []), run])
      for (const began of listeners) began(run, others)
      return run
    },
    of: (attemptId) => byAttempt.get(attemptId) ?? [],
    open,
    died(process) {
      for (const run of open()) if (run.process === process) run.endedMs ??= clock.nowMs()
    },
    onBegin: (listen) => void listeners.push(listen),
  }
}

type Parts = { agentClock: MonotonicClock; clockRate: number; process: SimulatedProcess; runs: TrueRuns }

/** The development executor of the agent, with a witness of what it really does. */
export function witnessedExecutor(clock: SimulatedClock, { agentClock, clockRate, process, runs }: Parts): Executor {
  const fake = createFakeExecutor({ clock: agentClock })
  return {
    ...fake,
    async run(attempt, report, signal) {
      if (!process.crosses()) return never()
      const run = runs.begin({ attemptId: attempt.attemptId, devices: attempt.devices, process, clockRate })
      signal.addEventListener('abort', () => (run.isTold = true), { once: true })
      const ready = () => {
        run.readyMs ??= clock.nowMs()
        report.ready()
      }
      try {
        return await fake.run(attempt, { ...report, ready }, signal)
      } finally {
        run.endedMs ??= clock.nowMs()
      }
    },
  }
}
