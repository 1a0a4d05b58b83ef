import type { EventType, MarketEvent } from '@orbyte/protocol'
import { type Clock, isoFromMs } from './context.ts'
import type { Reader, Row, Transaction, Value } from './db/database.ts'

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
 * The event log: what happened, in the order of commits, with one cursor. An event is written in the commit of what it tells, if
 * that does not fail, and reaches subscribers once it is durable. Live streams, the scheduler and the agents' sockets are its
 * readers.
 */
export type EventLog = {
  append(tx: Transaction, event: NewEvent): Promise<void>
  /** Removes what a task has put out: text, logs, and that there were files. */
  deleteProduce(tx: Transaction, taskId: string): Promise<void>
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

const columns = ['type', 'at', 'task_id', 'attempt_id', 'user_id', 'provider_id', 'data'] as const
/** A statement that adds so many events: it costs half of what as many statements do. */
const insertOf = (rows: number) =>
  `INSERT INTO events (${columns.join(', ')}) VALUES ${Array(rows).fill('(?, ?, ?, ?, ?, ?, ?)').join(', ')}`
const insertMany = { rows: 16, sql: insertOf(16) }
const insertOne = { rows: 1, sql: insertOf(1) }

export function createEventLog(clock: Clock): EventLog {
  const listeners = new Set<(event: StoredEvent) => void>()
  /** What the commit that is being written tells: stored at its end, all at once. */
  let told: StoredEvent[] | null = null

  function begin(tx: Transaction): StoredEvent[] {
    told = []
    tx.onUndo(() => (told = null))
    tx.sealWith(async () => {
      await store(tx, told!)
      told = null
    })
    return told
  }

  return {
    async append(tx, event) {
      const { type, task_id, attempt_id = null, user_id, provider_id = null, data = {} } = event
      const at = isoFromMs(clock.now())
      const stored: StoredEvent = { cursor: 0, type, at, task_id, attempt_id, user_id, provider_id, data }
      const events = told ?? begin(tx)
      events.push(stored)
      tx.onUndo(() => events.pop())
      tx.afterCommit(() => tell(listeners, stored))
    },
    async deleteProduce(tx, taskId) {
      const before = told
      if (before) {
        await store(tx, before)
        told = []
        tx.onUndo(() => (told = before))
      }
      await tx.run(
        `DELETE FROM events WHERE task_id = ? AND type IN ('output.appended', 'log.appended', 'file.added')`,
        taskId,
      )
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

/** Gives each its cursor. A statement numbers its rows one after the other. */
async function store(tx: Transaction, events: readonly StoredEvent[]) {
  for (let first = 0; first < events.length;) {
    const { rows, sql } = events.length - first >= insertMany.rows ? insertMany : insertOne
    const next = first + rows
    const values: Value[] = []
    for (let index = first; index < next; index++) {
      const { type, at, task_id, attempt_id, user_id, provider_id, data } = events[index]!
      values.push(type, at, task_id, attempt_id, user_id, provider_id, JSON.stringify(data))
    }
    const last = await tx.insert(sql, ...values)
    for (let index = first; index < next; index++) events[index]!.cursor = last - (next - 1 - index)
    first = next
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
