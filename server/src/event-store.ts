import type { EventType, MarketEvent } from '@orbyte/protocol'
import { type Clock, isoFromMs } from './context.ts'
import type { Reader, Row, Transaction } from './db/database.ts'

/** An event, with the users who may see it: their own tasks' and GPUs' events and no others. */
export type NewEvent = {
  type: EventType
  task_id: string | null
  attempt_id?: string | null
  /** The renter. */
  user_id: string | null
  /** The GPU's owner, for events that are also theirs. */
  provider_id?: string | null
  data?: MarketEvent['data']
}
export type StoredEvent = MarketEvent & { user_id: string | null; provider_id: string | null }

/**
 * The event log: what happened, in the order of commits, with one cursor. An event is written in the transaction of what it
 * tells and reaches subscribers once that is durable. Live streams, the scheduler and the agents' sockets are its readers.
 */
export type EventLog = {
  append(tx: Transaction, event: NewEvent): Promise<void>
  /** `listen` is called in cursor order. If it throws, the others hear all the same. The result unsubscribes. */
  subscribe(listen: (event: StoredEvent) => void): () => void
  ofTask(reader: Reader, query: { taskId: string; after: number; limit: number }): Promise<StoredEvent[]>
  /** Those of a part of the log that are a renter's or a provider's, without output and logs. The part is read whole. */
  ofUser(reader: Reader, query: EventsOfUser): Promise<StoredEvent[]>
  /** The cursor of the newest event; 0 where there is none. */
  head(reader: Reader): Promise<number>
}
export type EventsOfUser = { userId: string; as: 'renter' | 'provider'; after: number; upTo: number }

type EventRow = Row & {
  cursor: number
  type: string
  at: string
  task_id: string | null
  attempt_id: string | null
  user_id: string | null
  provider_id: string | null
  data: string
}

export function createEventLog(clock: Clock): EventLog {
  const listeners = new Set<(event: StoredEvent) => void>()
  return {
    async append(tx, event) {
      const at = isoFromMs(clock.now())
      const { type, task_id, attempt_id = null, user_id, provider_id = null, data = {} } = event
      const cursor = await tx.insert(
        'INSERT INTO events (type, at, task_id, attempt_id, user_id, provider_id, data) VALUES (?, ?, ?, ?, ?, ?, ?)',
        ...[type, at, task_id, attempt_id, user_id, provider_id, JSON.stringify(data)],
      )
      const stored: StoredEvent = { cursor, type, at, task_id, attempt_id, user_id, provider_id, data }
      tx.afterCommit(() => tell(listeners, stored))
    },
    subscribe(listen) {
      listeners.add(listen)
      return () => listeners.delete(listen)
    },
    async ofTask(reader, { taskId, after, limit }) {
      const rows = await reader.all<EventRow>(
        'SELECT * FROM events WHERE task_id = ? AND cursor > ? ORDER BY cursor LIMIT ?',
        ...[taskId, after, limit],
      )
      return rows.map(storedEvent)
    },
    async ofUser(reader, { userId, as, after, upTo }) {
      const rows = await reader.all<EventRow>(
        `SELECT * FROM events WHERE cursor > ? AND cursor <= ? AND ${as === 'renter' ? 'user_id' : 'provider_id'} = ?
           AND type NOT IN ('output.appended', 'log.appended') ORDER BY cursor`,
        ...[after, upTo, userId],
      )
      return rows.map(storedEvent)
    },
    async head(reader) {
      const row = await reader.get<{ head: number | null }>('SELECT max(cursor) AS head FROM events')
      return row?.head ?? 0
    },
  }
}

function storedEvent(row: EventRow): StoredEvent {
  return { ...row, data: JSON.parse(row.data) } as StoredEvent
}

/** Throws what one of them has thrown, once all have heard. */
function tell(listeners: Set<(event: StoredEvent) => void>, event: StoredEvent) {
  const errors: unknown[] = []
  for (const listen of listeners) {
    try {
      listen(event)
    } catch (error) {
      errors.push(error)
    }
  }
  if (errors.length > 1) throw new AggregateError(errors, 'listeners to an event failed')
  if (errors.length === 1) throw errors[0]
}
