import type { Context } from '../context.ts'
import type { Reader } from '../db/database.ts'
import type { StoredEvent } from '../event-store.ts'
import type { Feed, Outlet } from './feed.ts'

/** A piece of the log: what of it is for this watcher, and up to where it was looked through. */
export type LogPage = { events: readonly StoredEvent[]; upTo: number; isLast: boolean }
export type LogSource = {
  /** Whether a new event is for this watcher. */
  matches(event: StoredEvent): boolean
  /** Null: too much lies between `after` and now. */
  read(reader: Reader, after: number): Promise<LogPage | null>
  /** Whether nothing follows this event. */
  isEnd(event: StoredEvent): boolean
}
export type LogSink = {
  event(event: StoredEvent): void
  missed(cursor: number): void
  done(): void
  failed(error: unknown): void
}
type Parts = { source: LogSource; outlet: Outlet; sink: LogSink; after: number; hasEnded: boolean }

/**
 * Tells one watcher what is in the log after a cursor, then what is added, each event once and in order. New events are handed
 * on from memory while the outlet is clear. Where it is not, they are dropped, and read from the log once it is: so a watcher
 * costs at most a page, however slowly it reads.
 */
export function createLogFeed(context: Pick<Context, 'database' | 'events'>, parts: Parts): Feed {
  const { source, outlet, sink, hasEnded } = parts
  let cursor = parts.after
  let isLive = false
  let isReading = false
  let news = false
  let stopped = false

  const unsubscribe = context.events.subscribe((event) => {
    news = true
    if (!isLive) return
    if (!source.matches(event)) cursor = event.cursor
    else if (outlet.isClear()) deliver(event)
    else isLive = false
  })

  function stop() {
    stopped = true
    unsubscribe()
  }

  function deliver(event: StoredEvent) {
    cursor = event.cursor
    sink.event(event)
    if (source.isEnd(event)) finish()
  }

  function finish() {
    stop()
    sink.done()
  }

  /** Reads from the log until it has caught up with it, or the outlet is full. */
  async function catchUp() {
    if (isReading || isLive) return
    isReading = true
    try {
      while (!stopped && !isLive && outlet.isClear()) await readOn()
    } catch (error) {
      if (!stopped) sink.failed(error)
      stop()
    } finally {
      isReading = false
    }
  }

  async function readOn() {
    news = false
    const page = await context.database.read((reader) => source.read(reader, cursor))
    if (stopped) return
    if (page === null) return skipToHead()
    for (const event of page.events) {
      if (!outlet.isClear()) return
      deliver(event)
      if (stopped) return
    }
    cursor = Math.max(cursor, page.upTo)
    if (!page.isLast || news) return
    if (hasEnded) finish()
    else isLive = true
  }

  async function skipToHead() {
    cursor = await context.database.read((reader) => context.events.head(reader))
    if (!stopped) sink.missed(cursor)
  }

  return { start: catchUp, resume: () => void catchUp(), stop, cursor: () => cursor }
}
