import type { StoredEvent } from '@orbyte/server/event-store.ts'
import type { MarketDisk } from '../market-disk.ts'
import type { SimulatedClock } from '../simulated-clock.ts'
import type { TrueRuns } from '../simulated-executor.ts'
import type { Generation, SimulatedMarket } from '../simulated-market.ts'
import type { PromiseStore } from './promise-store.ts'

/** A promise that was broken: which, when, and how it shows. */
export type Violation = { readonly promise: string; readonly atMs: number; readonly message: string }

/** What a check may look at: what is committed, what the market has in memory, and what really happened. */
export type Evidence = {
  readonly clock: SimulatedClock
  readonly disk: MarketDisk
  readonly store: PromiseStore
  readonly runs: TrueRuns
  readonly config: SimulatedMarket['config']
  /** The market process that is up. */
  current(): Generation | null
  /** For how long the market has been up, with nothing wrong with it. */
  wellMs(): number
  broken(promise: string, message: string): void
}

/** An event as it is stored. */
export type CommittedEvent = Pick<StoredEvent, 'cursor' | 'type' | 'at' | 'task_id' | 'attempt_id' | 'data'>

/** A promise, or a few that belong together, as checks. */
export type Watch = {
  /** An event that has just been committed. */
  hear?(event: CommittedEvent): void
  /** After each step in which something was committed, and after its events. */
  afterCommit?(): void
  everyHour?(): void
  /** Once nothing goes wrong any more and everything has come to rest. */
  atTheEnd?(): Promise<void> | void
}
