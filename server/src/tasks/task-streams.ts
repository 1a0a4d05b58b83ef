import { Readable } from 'node:stream'
import type { FastifyReply } from 'fastify'
import { isTaskFinal, problem } from '@orbyte/protocol'
import type { Context } from '../context.ts'
import { viewEvent } from '../event-view.ts'
import type { Caller } from '../http/route.ts'
import type { AuthenticationService } from '../users/authentication-service.ts'
import type { TaskService } from './task-service.ts'

const pageOfEvents = 500
/** A stream says something at least this often, so that whoever waits can tell silence from a broken connection. */
const quietMsMax = 15_000
const endings = new Set(['task.completed', 'task.failed', 'task.cancelled'])

/** `ended`: the task has, so there is nothing to wait for. */
type EventsQuery = { after: number; signal: AbortSignal; ended: boolean }
export type TaskStreams = ReturnType<typeof createTaskStreams>

type Parts = { tasks: TaskService; authentication: AuthenticationService }

/** What a task produces, as streams: events (SSE), text, logs and files. */
export function createTaskStreams(context: Context, { tasks, authentication }: Parts) {
  const open = new Map<string, Set<AbortController>>()
  // Whoever still may, comes back: a stream does not outlive the session or the key that it was opened with.
  authentication.onForgotten((userId) => {
    for (const reply of [...(open.get(userId) ?? [])]) reply.abort()
  })

  /**
   * The task's events from the log, past and to come; null where nothing happened for a while. New events only wake it, so that
   * a slow watcher costs no memory.
   */
  async function* eventsOf(taskId: string, { after, signal, ended }: EventsQuery) {
    let news = false
    let wake = () => {}
    const unsubscribe = context.events.subscribe((event) => {
      if (event.task_id !== taskId) return
      news = true
      wake()
    })
    signal.addEventListener('abort', () => wake())
    try {
      for (let cursor = after; !signal.aborted;) {
        news = false
        const events = await storedAfter(taskId, cursor)
        for (const event of events) yield event
        cursor = events.at(-1)?.cursor ?? cursor
        if (news || events.length === pageOfEvents) continue
        if (ended) return
        let cancel = () => {}
        await new Promise<void>((resolve) => {
          wake = resolve
          cancel = context.clock.after(quietMsMax, resolve)
        })
        cancel()
        if (!news) yield null
      }
    } finally {
      unsubscribe()
    }
  }

  function storedAfter(taskId: string, after: number) {
    return context.database.read((reader) => context.events.ofTask(reader, { taskId, after, limit: pageOfEvents }))
  }

  /** Server-Sent Events: id is the cursor, data a MarketEvent. Ends after the task's last event. */
  async function* sse(taskId: string, options: EventsQuery) {
    yield ': the events of this task\n\n'
    for await (const event of eventsOf(taskId, options)) {
      if (event === null) {
        yield ': still here\n\n'
        continue
      }
      yield `id: ${event.cursor}\nevent: ${event.type}\ndata: ${JSON.stringify(viewEvent(event))}\n\n`
      if (endings.has(event.type)) return
    }
  }

  async function textOf(taskId: string, type: 'output.appended' | 'log.appended'): Promise<string> {
    let text = ''
    for (let after = 0, more = true; more;) {
      const events = await storedAfter(taskId, after)
      for (const { type: found, data } of events) {
        if (found === 'output.reset' && type === 'output.appended') text = ''
        if (found === type)
          text += type === 'output.appended' ? String(data.text) : `${(data.lines as string[]).join('\n')}\n`
      }
      more = events.length === pageOfEvents
      after = events.at(-1)?.cursor ?? after
    }
    return text
  }

  async function visible(caller: Caller, taskId: string) {
    const task = await context.database.read((reader) => tasks.visible(reader, taskId, caller))
    if (task.data_deleted_at !== null)
      throw problem('output_deleted', `The data of ${taskId} was deleted at ${task.data_deleted_at}.`)
    return task
  }

  /** Null: the caller has left already. Else what ends with the reply, or when the caller is no longer let in. */
  function takePlace({ userId }: Caller, reply: FastifyReply): AbortSignal | null {
    // Who has left before it began never says so again.
    if (reply.raw.destroyed) return null
    const replies = open.get(userId) ?? new Set()
    const most = context.config.limits.streamsPerUserMax
    if (replies.size >= most)
      throw problem('rate_limited', `At most ${most} streams and downloads of tasks at a time. Close one first.`)
    const ending = new AbortController()
    open.set(userId, replies.add(ending))
    ending.signal.addEventListener('abort', () => {
      replies.delete(ending)
      if (replies.size === 0 && open.get(userId) === replies) open.delete(userId)
    })
    reply.raw.on('close', () => ending.abort())
    return ending.signal
  }

  return {
    async events(query: { task_id: string; after?: number }, caller: Caller, reply: FastifyReply) {
      const task = await context.database.read((reader) => tasks.visible(reader, query.task_id, caller))
      const signal = takePlace(caller, reply)
      if (signal === null) return reply.hijack()
      const after = query.after ?? (Number(reply.request.headers['last-event-id']) || 0)
      const chunks = sse(query.task_id, { after, signal, ended: isTaskFinal(task.status) })
      return reply
        .header('cache-control', 'no-store')
        .header('x-accel-buffering', 'no')
        .type('text/event-stream; charset=utf-8')
        .send(Readable.from(chunks))
    },

    async text(type: 'output.appended' | 'log.appended', caller: Caller, at: { taskId: string; reply: FastifyReply }) {
      await visible(caller, at.taskId)
      if (takePlace(caller, at.reply) === null) return at.reply.hijack()
      return at.reply.type('text/plain; charset=utf-8').send(await textOf(at.taskId, type))
    },

    async file(query: { task_id: string; name: string }, caller: Caller, reply: FastifyReply) {
      const task = await visible(caller, query.task_id)
      const files = await context.database.read((reader) => tasks.filesOf(reader, task))
      const file = files.find(({ name }) => name === query.name)
      if (file && takePlace(caller, reply) === null) return reply.hijack()
      const bytes = file && (await context.files.get(file.sha256))
      if (!file || !bytes) throw problem('not_found', `${query.task_id} has no file ${query.name}. See its "files".`)
      // What a renter's task has written is never run by a browser on this origin.
      return reply
        .header('content-security-policy', 'sandbox')
        .header('content-disposition', `attachment; filename="${file.name}"`)
        .header('etag', `"${file.sha256}"`)
        .type(file.mime_type)
        .send(Buffer.from(bytes))
    },
  }
}
