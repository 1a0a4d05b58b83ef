import type { Caller } from '@orbyte/server/http/route.ts'
import type { MarketDisk } from '../market-disk.ts'
import type { SimulatedClock } from '../simulated-clock.ts'
import type { TrueRuns } from '../simulated-executor.ts'
import type { Generation, SimulatedMarket } from '../simulated-market.ts'
import { watchAttempts } from './attempts.ts'
import { watchCharges } from './charges.ts'
import { watchDurability } from './durability.ts'
import type { Evidence, Violation, Watch } from './evidence.ts'
import { watchGpus } from './gpus.ts'
import { watchBalances } from './balances.ts'
import { watchOwners } from './owners.ts'
import { createPromiseStore } from './promise-store.ts'
import { watchWaiting } from './waiting.ts'

export type Promises = ReturnType<typeof createPromises>

type Parts = {
  readonly clock: SimulatedClock
  readonly disk: MarketDisk
  readonly runs: TrueRuns
  readonly market: SimulatedMarket
  callerOf(userId: string): Caller
}

/** What Orbyte promises to its users, as checks that look at the disk, at the market's memory, and at what really happened. */
export function createPromises({ clock, disk, runs, market, callerOf }: Parts) {
  const violations: Violation[] = []
  const evidence: Evidence = {
    ...{ clock, disk, runs },
    store: createPromiseStore(disk),
    config: market.config,
    current: market.current,
    wellMs: market.wellMs,
    broken: (promise, message) => void violations.push({ promise, atMs: clock.nowMs(), message }),
  }
  const attempts = watchAttempts(evidence)
  const durability = watchDurability(evidence)
  const owners = watchOwners(evidence)
  const waiting = watchWaiting(evidence)
  const watches: readonly Watch[] = [
    watchBalances(evidence, callerOf),
    watchCharges(evidence),
    watchGpus(evidence),
    attempts,
    durability,
    owners,
    waiting,
  ]
  let commitsSeen = 0
  let lastCursor = 0

  function everyHour() {
    for (const watch of watches) watch.everyHour?.()
  }

  return {
    violations,
    broken: evidence.broken,
    store: evidence.store,
    durability,
    owners,
    isAtRest: waiting.isAtRest,

    /** Cheap: nothing is looked at where nothing was committed. */
    afterStep() {
      if (disk.commits() === commitsSeen) return
      commitsSeen = disk.commits()
      for (const event of evidence.store.eventsAfter(lastCursor)) {
        lastCursor = event.cursor
        for (const watch of watches) watch.hear?.(event)
      }
      for (const watch of watches) watch.afterCommit?.()
    },
    everyHour,
    async atTheEnd() {
      everyHour()
      for (const watch of watches) await watch.atTheEnd?.()
    },
    /** A market process has taken up what was on the disk. */
    opened(generation: Generation) {
      attempts.opened(generation)
      durability.opened()
    },
  }
}
