import type { FastifyReply } from 'fastify'
import { ProblemError } from '@orbyte/protocol'
import type { Promises } from '../promises/promises.ts'
import type { SimulatedClock } from '../simulated-clock.ts'
import type { Generation, SimulatedMarket } from '../simulated-market.ts'
import type { Trace } from '../trace.ts'
import { isDiskError } from '../market-disk.ts'
import { callerOf } from './asking.ts'

type Parts = {
  readonly clock: SimulatedClock
  readonly market: SimulatedMarket
  readonly promises: Promises
  readonly trace: Trace
}
export type Watchers = ReturnType<typeof createWatchers>

/** A stream says something at least every 15 s; who hears nothing for longer than this comes again. */
const silenceMsMax = 20_000
const againMs = 2_000

/**
 * Who watches a task hears each of its events once and in order, whatever breaks meanwhile: a stream that falls silent is asked
 * for again from where it was, as any client of Server-Sent Events does it.
 */
export function createWatchers({ clock, market, promises, trace }: Parts) {
  /** The task's streams, each from the last event that was heard. */
  function watch(who: string, taskId: string) {
    const heard: number[] = []
    let isOver = false
    let connections = 0
    let heardMs = clock.nowMs()
    let close = () => {}

    function hear(connection: number, chunk: string) {
      if (isOver || connection !== connections) return
      heardMs = clock.nowMs()
      const cursor = /^id: (\d+)\nevent: (\S+)\n/.exec(chunk)
      if (!cursor) return
      if (Number(cursor[1]) <= (heard.at(-1) ?? 0))
        promises.broken('who watches hears all of it', `${taskId}: ${cursor[1]} was heard after ${heard.at(-1)}`)
      heard.push(Number(cursor[1]))
      if (/^task\.(completed|failed|cancelled)$/.test(cursor[2]!)) end()
    }

    function end() {
      isOver = true
      close()
      trace(`who watched ${taskId.slice(-6)} has heard ${heard.length} events`)
      const missing = promises.store
        .eventsOfTask(taskId)
        .filter(({ cursor }) => cursor <= heard.at(-1)! && !heard.includes(cursor))
      if (missing.length > 0)
        promises.broken(
          'who watches hears all of it',
          `${taskId}: ${missing.map(({ type }) => type).join(', ')} was not heard`,
        )
    }

    function connect() {
      close()
      const generation = market.current()
      if (isOver) return
      if (!generation) return void clock.after(againMs, connect)
      heardMs = clock.nowMs()
      const connection = ++connections
      close = openStream(
        generation,
        { who, taskId, after: heard.at(-1) ?? 0 },
        { hear: (chunk) => hear(connection, chunk), refused },
      )
      listen(connection)
    }

    function refused(error: unknown) {
      if (isDiskError(error)) return
      isOver = true
      close()
      if (!(error instanceof ProblemError))
        promises.broken('an error has a name', `${taskId} watched: ${String(error)}`)
    }

    function listen(connection: number) {
      clock.after(silenceMsMax, () => {
        if (isOver || connection !== connections) return
        if (clock.nowMs() - heardMs >= silenceMsMax) connect()
        else listen(connection)
      })
    }
    connect()
  }

  return { watch }
}

type Query = { who: string; taskId: string; after: number }

type Reading = { hear(chunk: string): void; refused(error: unknown): void }

/** Reads the market's stream until it ends, for as long as its process lives. The result hangs up. */
function openStream({ process, market }: Generation, { who, taskId, after }: Query, { hear, refused }: Reading) {
  let hangUp = () => {}
  const reply = {
    raw: { on: (_close: string, listen: () => void) => void (hangUp = listen), destroyed: false },
    request: { headers: {} },
    header: () => reply,
    type: () => reply,
    send: (stream: AsyncIterable<string>) => read(stream).catch(refused),
  }
  async function read(stream: AsyncIterable<string>) {
    for await (const chunk of stream) if (process.crosses()) hear(String(chunk))
  }
  market.streams
    .events({ task_id: taskId, after }, callerOf(who), reply as unknown as FastifyReply)
    .catch((error: unknown) => process.isAlive() && refused(error))
  return () => hangUp()
}
