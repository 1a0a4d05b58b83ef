import {
  type LiveClientMessage,
  LiveClientMessage as LiveClientMessageSchema,
  liveCloseCodes,
  liveProtocolVersion,
  type LiveServerMessageWire,
  liveSubjectsMax,
  problem,
} from '@orbyte/protocol'
import { type Context, every, nowIso } from '../context.ts'
import { problemOf } from '../http/problems.ts'
import type { Principal } from '../http/route.ts'
import type { AuthenticationService } from '../users/authentication-service.ts'
import type { Feed } from './feed.ts'
import type { LiveService, MessageWithoutId } from './live-service.ts'

export type LiveParts = { live: LiveService; authentication: AuthenticationService; visitors: Visitors }
/** How many connections each user and each caller’s network has. `enter` is null where there are as many as there may be. */
export type Visitors = { enter(name: string): (() => void) | null }
export type LiveSocket = {
  isOpen(): boolean
  bufferedBytes(): number
  /** `sent` is called once it has left this process. */
  send(text: string, sent: () => void): void
  close(code: number, reason: string): void
  terminate(): void
}
type CloseReason = keyof typeof liveCloseCodes

const quietMs = 15_000
/** Above this the watcher reads more slowly than it is told. */
const clearBytesMax = 256_000
/** So long the watcher may leave a full buffer unread: two minutes. */
const unreadTicksMax = 8
const messagesPerMinuteMax = 600

/** One open socket of a watcher: who it is, what it watches, and that it goes on reading. See protocol/live-messages.ts. */
export function watchLive(socket: LiveSocket, context: Context, parts: LiveParts & { network: string }) {
  const feeds = new Map<number, Feed | null>()
  let principal: Principal | null = null
  let credential: string | null = null
  let leave = parts.visitors.enter(`network ${parts.network}`)
  let received = 0
  let fullTicks = 0
  let closed = false
  /** Messages are dealt with one after the other, so that `watch` waits for the `authenticate` before it. */
  let dealing = Promise.resolve()

  const outlet = { isClear: () => !closed && socket.bufferedBytes() < clearBytesMax }
  const stopTicking = every(context, quietMs, tick)
  const stopListening = parts.authentication.onForgotten((userId) => {
    if (userId === principal?.userId) dealing = dealing.then(confirm)
  })
  if (leave === null) hangUp('too_many')
  else send({ type: 'welcome', protocol_version: liveProtocolVersion, quiet_ms: quietMs })

  function send(message: LiveServerMessageWire) {
    if (closed || !socket.isOpen()) return
    socket.send(JSON.stringify(message), () => {
      if (closed || !outlet.isClear()) return
      fullTicks = 0
      for (const feed of feeds.values()) feed?.resume()
    })
  }

  function hangUp(reason: CloseReason) {
    if (closed) return
    end()
    socket.close(liveCloseCodes[reason], reason)
  }

  function end() {
    closed = true
    stopTicking()
    stopListening()
    leave?.()
    for (const feed of feeds.values()) feed?.stop()
    feeds.clear()
  }

  /** Says that it is still there, and looks whether the other side is. */
  async function tick() {
    received = 0
    await confirm()
    if (closed) return
    if (!outlet.isClear()) {
      if (++fullTicks < unreadTicksMax) return
      hangUp('too_slow')
      // What is in the buffer stands before the goodbye, and nobody reads it.
      return socket.terminate()
    }
    const cursors = [...feeds].flatMap(([id, feed]) => {
      const cursor = feed?.cursor() ?? null
      return cursor === null ? [] : [{ id, cursor }]
    })
    send({ type: 'still_here', cursors })
  }

  /** Whether the credential is still good. */
  async function confirm() {
    if (closed || credential === null) return
    await parts.authentication.authenticate(credential).catch(() => hangUp('unauthenticated'))
  }

  async function authenticate(given: string) {
    try {
      const found = await parts.authentication.authenticate(given)
      if (found.userId === null) throw problem('forbidden', 'The operator’s token only opens administration.')
      if (principal !== null && principal.userId !== found.userId) return hangUp('unauthenticated')
      if (principal === null && !enterAs(found.userId)) return hangUp('too_many')
      principal = found
      credential = given
      send({ type: 'authenticated', user_id: found.userId, at: nowIso(context) })
    } catch {
      hangUp('unauthenticated')
    }
  }

  /** From now on the connection counts as the user’s, not as the network’s. */
  function enterAs(userId: string): boolean {
    leave?.()
    leave = parts.visitors.enter(`user ${userId}`)
    return leave !== null
  }

  async function watch({ id, subject, after }: Extract<LiveClientMessage, { type: 'watch' }>) {
    if (feeds.has(id) || feeds.size >= liveSubjectsMax) return hangUp('malformed')
    feeds.set(id, null)
    const tell = (message: MessageWithoutId) => {
      if (message.type === 'done') feeds.delete(id)
      send({ ...message, id } as LiveServerMessageWire)
    }
    try {
      const failed = (error: unknown) => refuse(id, error)
      const { feed, head } = await parts.live.open({ subject, after, principal, outlet, send: tell, failed })
      if (closed) return feed.stop()
      feeds.set(id, feed)
      send({ type: 'watching', id, cursor: head })
      void feed.start()
    } catch (error) {
      refuse(id, error)
    }
  }

  function refuse(id: number, error: unknown) {
    feeds.get(id)?.stop()
    feeds.delete(id)
    const found = problemOf(error)
    if (!found) context.log.error({ error }, 'a live subject failed')
    const { code, message } = found ?? { code: 'internal_error', message: 'Something broke on our side. Try again.' }
    send({ type: 'refused', id, code, detail: message })
  }

  async function deal(text: string) {
    if (closed) return
    const message = LiveClientMessageSchema.safeParse(parseJson(text))
    if (!message.success) return hangUp('malformed')
    switch (message.data.type) {
      case 'authenticate':
        return authenticate(message.data.credential)
      case 'watch':
        return watch(message.data)
      case 'unwatch':
        feeds.get(message.data.id)?.stop()
        feeds.delete(message.data.id)
    }
  }

  return {
    received(text: string | null) {
      if (text === null) return hangUp('malformed')
      if (++received > (messagesPerMinuteMax * quietMs) / 60_000) return hangUp('too_many')
      dealing = dealing.then(() => deal(text))
    },
    stopping: () => hangUp('stopping'),
    closed() {
      if (!closed) end()
    },
  }
}

export function createVisitors(most: number): Visitors {
  const counts = new Map<string, number>()
  return {
    enter(name) {
      const count = counts.get(name) ?? 0
      if (count >= most) return null
      counts.set(name, count + 1)
      let hasLeft = false
      return () => {
        if (hasLeft) return
        hasLeft = true
        const left = counts.get(name)! - 1
        if (left === 0) counts.delete(name)
        else counts.set(name, left)
      }
    },
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
