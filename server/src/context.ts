import { type IdKind, makeId } from '@orbyte/protocol'
import type { Config } from './config.ts'
import type { Database } from './db/database.ts'
import type { EventLog } from './event-store.ts'
import type { FileStore } from './file-store.ts'

/** Time comes from here and nowhere else, so that tests and the simulation can own it. */
export type Clock = {
  /** Milliseconds since 1970. */
  now(): number
  /** Calls `run` once, `delayMs` from now. The result cancels it. */
  after(delayMs: number, run: () => void): () => void
}

export type Random = {
  /** Cryptographically strong in production, seeded in the simulation. */
  bytes(count: number): Uint8Array
}

export type Log = {
  debug(fields: object, message: string): void
  info(fields: object, message: string): void
  warn(fields: object, message: string): void
  error(fields: object, message: string): void
}

/** All that the market's logic has from outside. Made once by `server.ts`, handed to every feature. */
export type Context = {
  readonly config: Config
  readonly clock: Clock
  readonly random: Random
  readonly database: Database
  readonly events: EventLog
  readonly files: FileStore
  readonly log: Log
}

type TimeAndChance = Pick<Context, 'clock' | 'random'>

export function newId(context: TimeAndChance, kind: IdKind): string {
  return makeId(kind, context.clock.now(), context.random.bytes(10))
}

export function nowIso(context: Pick<Context, 'clock'>): string {
  return isoFromMs(context.clock.now())
}

/** The last answer, because a commit asks for the same millisecond hundreds of times. */
let last = { timeMs: 0, iso: new Date(0).toISOString() }

export function isoFromMs(timeMs: number): string {
  if (timeMs !== last.timeMs) last = { timeMs, iso: new Date(timeMs).toISOString() }
  return last.iso
}

/** Runs `work` every `periodMs`, never two at a time, starting one period from now. The result stops it. */
export function every(
  context: Pick<Context, 'clock' | 'log'>,
  periodMs: number,
  work: () => Promise<void>,
): () => void {
  let stopped = false
  let cancel = () => {}
  const schedule = () => {
    cancel = context.clock.after(periodMs, () => {
      work()
        .catch((error: unknown) => context.log.error({ error }, 'a periodic task failed'))
        .finally(() => {
          if (!stopped) schedule()
        })
    })
  }
  schedule()
  return () => {
    stopped = true
    cancel()
  }
}
