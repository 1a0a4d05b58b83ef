import { type api, isTaskFinal, type OutputOf } from '@orbyte/protocol'
import type { Client } from './client.ts'
import type { Live, LiveMessage } from './live.ts'
import { OrbyteError } from './orbyte-error.ts'
import { backoffMs, delay } from './retry.ts'

export type TaskEvent = OutputOf<typeof api.tasks.events>

export type WatchOptions = {
  signal?: AbortSignal
  /** Only events after this cursor. Default: everything that has happened to the task. */
  after?: number
  /** How many connections in a row may fail or be lost within ten seconds. Default 20: about three minutes. */
  failuresMax?: number
  /** Wait before the first reconnection of an event stream; it doubles up to ten seconds. */
  firstDelayMs?: number
}
type Watching = { taskId: string; after: number; signal: AbortSignal | undefined; failuresMax: number }

/** A connection that lasted so long was a good one: a task may wait for hours, over many of them. */
const steadyMs = 10_000
const taskEnds = ['task.completed', 'task.failed', 'task.cancelled']
/** What comes faster than it is taken is left in the market's log beyond so many events. */
const waitingEventsMax = 2_000

/**
 * What happens to a task, from its beginning to its end, each event once: a connection that breaks is made again and goes on
 * after the last event. Ends when the task has ended and everything was heard. It listens on the client's live connection;
 * where there is none, or something in between lets no WebSocket through, on an event stream of its own.
 */
export async function* watch(
  client: Pick<Client, 'tasks'> & Partial<Pick<Client, 'live'>>,
  taskId: string,
  { signal, after = 0, failuresMax = 20, firstDelayMs = 250 }: WatchOptions = {},
): AsyncGenerator<TaskEvent, void, undefined> {
  const watching = { taskId, after, signal, failuresMax }
  if (client.live && (yield* overSocket(client.live, watching)) === 'ended') return
  yield* overEventStream(client, { ...watching, firstDelayMs })
}

/** "unusable": the live connection could not even be opened, and nothing was heard. */
async function* overSocket(
  live: Live,
  { taskId, after, signal, failuresMax }: Watching,
): AsyncGenerator<TaskEvent, 'ended' | 'unusable', undefined> {
  signal?.throwIfAborted()
  const inbox = openInbox(live, { taskId, after, failuresMax })
  const wake = () => inbox.wake()
  signal?.addEventListener('abort', wake)
  try {
    for (;;) {
      for (const event of inbox.take()) {
        yield event
        signal?.throwIfAborted()
      }
      const end = inbox.end()
      if (end instanceof OrbyteError) throw end
      if (end !== null) return end
      await inbox.news()
      signal?.throwIfAborted()
    }
  } finally {
    signal?.removeEventListener('abort', wake)
    inbox.close()
  }
}

type InboxEnd = 'ended' | 'unusable' | OrbyteError

/** The task's events as they come, until they are taken. It stops listening while too many wait. */
function openInbox(live: Live, { taskId, after, failuresMax }: Omit<Watching, 'signal'>) {
  let waiting: TaskEvent[] = []
  let cursor = after
  let end: InboxEnd | null = null
  let wasOpen = live.state().status === 'open'
  let unwatch: (() => void) | null = null
  let wake = () => {}
  const endAs = (how: InboxEnd) => {
    end ??= how
    wake()
  }
  const stopState = live.onState(({ status, failures }) => {
    wasOpen ||= status === 'open'
    if (status === 'waiting' && !wasOpen) endAs('unusable')
    if (failures > failuresMax)
      endAs(new OrbyteError({ code: 'unreachable', detail: 'The market cannot be reached. Try again later.' }))
  })
  function close() {
    unwatch?.()
    unwatch = null
  }
  function hear(message: LiveMessage) {
    if (message.type === 'done') endAs('ended')
    if (message.type !== 'event' || message.event.cursor <= cursor) return
    cursor = message.event.cursor
    waiting.push(message.event)
    if (waiting.length >= waitingEventsMax) close()
    wake()
  }
  return {
    take() {
      const taken = waiting
      waiting = []
      return taken
    },
    end: () => (waiting.length > 0 ? null : end),
    /** Resolves when there is something to look at. */
    async news() {
      if (waiting.length > 0 || end !== null) return
      await new Promise<void>((resolve) => {
        wake = resolve
        unwatch ??= live.watch({ name: 'task', task_id: taskId }, { message: hear, failed: endAs }, { after: cursor })
      })
    },
    wake: () => wake(),
    close() {
      stopState()
      close()
    },
  }
}

async function* overEventStream(
  client: Pick<Client, 'tasks'>,
  { taskId, after, signal, failuresMax, firstDelayMs }: Watching & { firstDelayMs: number },
): AsyncGenerator<TaskEvent, void, undefined> {
  let cursor = after
  let failures = 0
  // Known before a connection is opened: what such a connection brings until it closes is all there is.
  let isEnded = false
  for (;;) {
    const openedAtMs = performance.now()
    try {
      for await (const event of await client.tasks.events({ task_id: taskId, after: cursor }, { signal })) {
        if (event.cursor <= cursor) continue
        cursor = event.cursor
        isEnded ||= taskEnds.includes(event.type)
        yield event
      }
      if (isEnded) return
      const { status } = await client.tasks.get({ task_id: taskId }, { signal })
      isEnded = isTaskFinal(status)
    } catch (error) {
      if (performance.now() - openedAtMs > steadyMs) failures = 0
      if (!isLostConnection(error) || failures >= failuresMax) throw error
    }
    await delay(backoffMs({ firstDelayMs, delayMsMax: 10_000 }, failures++), signal)
  }
}

function isLostConnection(error: unknown): boolean {
  return error instanceof OrbyteError && ['unreachable', 'unavailable', 'rate_limited'].includes(error.code)
}
