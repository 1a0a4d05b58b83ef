import { type api, isTaskFinal, type OutputOf } from '@orbyte/protocol'
import type { Client } from './client.ts'
import { OrbyteError } from './orbyte-error.ts'
import { backoffMs, delay } from './retry.ts'

export type TaskEvent = OutputOf<typeof api.tasks.events>

export type WatchOptions = {
  signal?: AbortSignal
  /** Only events after this cursor. Default: everything that has happened to the task. */
  after?: number
  /** How many connections in a row may fail or be lost within ten seconds. Default 20: about three minutes. */
  failuresMax?: number
  /** Wait before the first reconnection; it doubles up to ten seconds. */
  firstDelayMs?: number
}

/** A connection that lasted so long was a good one: a task may wait for hours, over many of them. */
const steadyMs = 10_000
const taskEnds = ['task.completed', 'task.failed', 'task.cancelled']

/**
 * What happens to a task, from its beginning to its end, each event once: a connection that breaks is made again and goes on
 * after the last event. Ends when the task has ended and everything was heard.
 */
export async function* watch(
  client: Pick<Client, 'tasks'>,
  taskId: string,
  { signal, after = 0, failuresMax = 20, firstDelayMs = 250 }: WatchOptions = {},
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
