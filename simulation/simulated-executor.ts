import type { Executor } from '@orbyte/agent/executors/executor.ts'
import { createFakeExecutor } from '@orbyte/agent/executors/fake-executor.ts'
import type { MonotonicClock } from '@orbyte/agent/clock.ts'
import type { SimulatedClock } from './simulated-clock.ts'
import type { SimulatedProcess } from './simulated-process.ts'

/** What a GPU really did for an attempt, by the world's own clock, whatever anybody says of it. */
export type TrueRun = {
  readonly attemptId: string
  readonly deviceUuid: string
  readonly process: SimulatedProcess
  readonly startedMs: number
  readyMs: number | null
  endedMs: number | null
  /** It was told to stop: a hung program goes on all the same. */
  isTold: boolean
}

export type TrueRuns = {
  begin(run: Pick<TrueRun, 'attemptId' | 'deviceUuid' | 'process'>): TrueRun
  of(attemptId: string): readonly TrueRun[]
  /** A dead process runs nothing. */
  died(process: SimulatedProcess): void
  /** Calls back when a GPU takes up an attempt. */
  onBegin(listen: (run: TrueRun, others: readonly TrueRun[]) => void): void
}

export function createTrueRuns(clock: SimulatedClock): TrueRuns {
  const byAttempt = new Map<string, TrueRun[]>()
  const open = new Set<TrueRun>()
  let began: (run: TrueRun, others: readonly TrueRun[]) => void = () => {}
  return {
    begin(named) {
      const others = [...open].filter(({ endedMs }) => endedMs === null)
      const run: TrueRun = { ...named, startedMs: clock.nowMs(), readyMs: null, endedMs: null, isTold: false }
      for (const over of [...open]) if (over.endedMs !== null) open.delete(over)
      open.add(run)
      byAttempt.set(run.attemptId, [...(byAttempt.get(run.attemptId) ?? []), run])
      began(run, others)
      return run
    },
    of: (attemptId) => byAttempt.get(attemptId) ?? [],
    died(process) {
      for (const run of open) if (run.process === process) run.endedMs ??= clock.nowMs()
    },
    onBegin: (listen) => (began = listen),
  }
}

/** The development executor of the agent, with a witness of what it really does. */
export function witnessedExecutor(
  clock: SimulatedClock,
  parts: { agentClock: MonotonicClock; process: SimulatedProcess; runs: TrueRuns },
): Executor {
  const { agentClock, process, runs } = parts
  const fake = createFakeExecutor({ clock: agentClock })
  return {
    ...fake,
    async run(attempt, report, signal) {
      const run = runs.begin({ attemptId: attempt.attemptId, deviceUuid: attempt.device.uuid, process })
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
