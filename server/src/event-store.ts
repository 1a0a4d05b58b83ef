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

/**
 * One event; or, where several are stored together, the last of them: `together` has all, the last one too, and its `data` is
 * empty. They have the numbers up to `cursor`.
 */
export type EventRow = Row & {
  cursor: number
  type: string
  at: string
  task_id: string | null
  attempt_id: string | null
  user_id: string | null
  /** The owner's of the GPU, for those of them that are also theirs. */
  provider_id: string | null
  data: string
  /** JSON: for each its type, whether it is the provider's too, and its data. */
  together: string | null
}
type Together = readonly (readonly [type: EventType, isProviders: boolean, data: MarketEvent['data']])[]

const columns = ['cursor', 'type', 'at', 'task_id', 'attempt_id', 'user_id', 'provider_id', 'data', 'together'] as const
/** Statements that add so many rows each: of many, a row costs half of what it costs alone. */
const inserts = [16, 8, 4, 2, 1].map((rows) => {
  const places = Array<string>(rows).fill(`(${columns.map(() => '?').join(', ')})`)
  return { rows, sql: `INSERT INTO events (${columns.join(', ')}) VALUES ${places.join(', ')}` }
})

/** What is looked for, counted or deleted by its type has a row of its own. */
const alone: ReadonlySet<EventType> = new Set(['output.appended', 'output.reset', 'log.appended', 'file.added'])
/** How many share a row at most. */
const togetherMax = 8

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
      const events = rows.flatMap(eventsOfRow).filter(({ cursor }) => cursor > after)
      return events.slice(0, limit)
    },
    async ofUser(reader, { userId, as, after, upTo }) {
      const owner = as === 'renter' ? 'user_id' : 'provider_id'
      const rows = await reader.all<EventRow>(
        `SELECT * FROM events WHERE cursor > ? AND cursor <= ? AND ${owner} = ?
           AND type NOT IN ('output.appended', 'log.appended') ORDER BY cursor`,
        ...[after, upTo + togetherMax - 1, userId],
      )
      return rows
        .flatMap(eventsOfRow)
        .filter((event) => event.cursor > after && event.cursor <= upTo && event[owner] === userId)
    },
    head: headOf,
  }
}

/** Gives each its cursor. */
async function store(tx: Transaction, events: readonly StoredEvent[]) {
  if (events.length === 0) return
  let cursor = await headOf(tx)
  for (const event of events) event.cursor = ++cursor
  const rows = groups(events)
  for (let first = 0; first < rows.length;) {
    const { rows: count, sql } = inserts.find((insert) => insert.rows <= rows.length - first)!
    const values: Value[] = []
    for (let index = first; index < first + count; index++) pushValues(values, rows[index]!)
    await tx.run(sql, ...values)
    first += count
  }
}

async function headOf(reader: Reader): Promise<number> {
  const row = await reader.get<{ head: number | null }>('SELECT max(cursor) AS head FROM events')
  return row?.head ?? 0
}

/** What is told of a task one after the other, at one moment and of the same attempt, is stored together. */
function groups(events: readonly StoredEvent[]): StoredEvent[][] {
  const found: StoredEvent[][] = []
  for (const event of events) {
    const before = found.at(-1)
    if (before && isWith(before, event)) before.push(event)
    else found.push([event])
  }
  return found
}

function isWith(group: readonly StoredEvent[], event: StoredEvent): boolean {
  const [first] = group as readonly [StoredEvent]
  const isOfSame = event.task_id !== null && event.task_id === first.task_id && event.attempt_id === first.attempt_id
  if (!isOfSame || event.at !== first.at || event.user_id !== first.user_id || group.length === togetherMax)
    return false
  if (alone.has(event.type) || alone.has(first.type)) return false
  const provider = providerOf(group)
  return provider === null || event.provider_id === null || event.provider_id === provider
}

const providerOf = (group: readonly StoredEvent[]) =>
  group.find(({ provider_id }) => provider_id !== null)?.provider_id ?? null

function pushValues(values: Value[], group: readonly StoredEvent[]) {
  const { cursor, type, at, task_id, attempt_id, user_id, provider_id, data } = group.at(-1)!
  values.push(cursor, type, at, task_id, attempt_id, user_id)
  if (group.length === 1) values.push(provider_id, JSON.stringify(data), null)
  else {
    const together: Together = group.map((event) => [event.type, event.provider_id !== null, event.data])
    values.push(providerOf(group), '{}', JSON.stringify(together))
  }
}

/** The events that a row has, in their sequence. */
export function eventsOfRow({ data, together, ...row }: EventRow): StoredEvent[] {
  if (together === null) return [{ ...row, data: JSON.parse(data) } as StoredEvent]
  const all = JSON.parse(together) as Together
  return all.map(([type, isProviders, of], place): StoredEvent => {
    const cursor = row.cursor - (all.length - 1 - place)
    return { ...row, cursor, type, provider_id: isProviders ? row.provider_id : null, data: of }
  })
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
