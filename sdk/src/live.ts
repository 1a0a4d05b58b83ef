import {
  type ErrorCode,
  liveCloseCodes,
  livePath,
  type LiveClientMessage,
  type LiveServerMessageWire,
  type LiveSubject,
} from '@orbyte/protocol'
import { OrbyteError } from './orbyte-error.ts'
import { backoffMs } from './retry.ts'
import type { TokenKeeper } from './tokens.ts'

/** What a subject says. Amounts are decimal strings. */
export type LiveMessage = Extract<
  LiveServerMessageWire,
  { type: 'watching' | 'event' | 'gpus' | 'wallet' | 'missed' | 'done' }
>
export type LiveListener = {
  message(message: LiveMessage): void
  /** The market refuses the subject; nothing more comes. */
  failed?(error: OrbyteError): void
}
/** `failures`: how many connections in a row could not be made or were lost soon. */
export type LiveState = { status: 'idle' | 'connecting' | 'open' | 'waiting'; failures: number }

/**
 * News as they happen: one connection for all subjects, opened by the first and closed after the last. One that is lost is made
 * again, and goes on where it was; see protocol/live-messages.ts for what a subject says when it could not.
 */
export type Live = {
  /** The result ends it. */
  watch(subject: LiveSubject, listener: LiveListener, options?: { after?: number | undefined }): () => void
  state(): LiveState
  onState(listen: (state: LiveState) => void): () => void
  /** Opens the connection anew: as somebody else, or because the network is back. */
  reconnect(): void
}

/** The part of a WebSocket that is used: browsers have it, Node has it from version 22, the package `ws` has it. */
export type WebSocketConstructor = new (url: string) => {
  onmessage: ((event: { data: unknown }) => void) | null
  onclose: ((event: { code: number }) => void) | null
  onerror: ((event: never) => void) | null
  send(text: string): void
  close(): void
}
type Socket = InstanceType<WebSocketConstructor>
type Options = { url: string; tokens: TokenKeeper; webSocket: WebSocketConstructor }
type Subscription = { subject: LiveSubject; listener: LiveListener; cursor: number | undefined }

/** A connection that lasted so long was a good one. */
const steadyMs = 10_000
const delays = { firstDelayMs: 250, delayMsMax: 10_000 }

export function platformWebSocket(): WebSocketConstructor | null {
  return (globalThis as { WebSocket?: WebSocketConstructor }).WebSocket ?? null
}

export function createLive({ url, tokens, webSocket: WebSocketHere }: Options): Live {
  const subscriptions = new Map<number, Subscription>()
  const listeners = new Set<(state: LiveState) => void>()
  let state: LiveState = { status: 'idle', failures: 0 }
  let socket: Socket | null = null
  let timer: ReturnType<typeof setTimeout> | undefined
  let silence: ReturnType<typeof setTimeout> | undefined
  let quietMs = 15_000
  let made = 0

  function become(status: LiveState['status'], failures: number) {
    state = { status, failures }
    for (const listen of listeners) listen(state)
  }

  function open() {
    clearTimeout(timer)
    if (socket || subscriptions.size === 0) return
    become('connecting', state.failures)
    const opened = new WebSocketHere(`${url.replace(/^http/, 'ws').replace(/\/+$/, '')}${livePath}`)
    const openedAtMs = performance.now()
    let credential: string | null = null
    socket = opened
    expectNews(opened)
    opened.onerror = () => {}
    opened.onmessage = ({ data }) => {
      if (socket !== opened) return
      expectNews(opened)
      const message = JSON.parse(String(data)) as LiveServerMessageWire
      if (message.type !== 'welcome') return heard(opened, message)
      quietMs = message.quiet_ms
      void tokens.current().then((token) => {
        credential = token
        if (socket === opened) greet(opened, token)
      })
    }
    opened.onclose = ({ code }) => {
      if (socket !== opened) return
      socket = null
      void lost(code, { credential, lastedMs: performance.now() - openedAtMs })
    }
  }

  function greet(opened: Socket, token: string | null) {
    if (token !== null) say(opened, { type: 'authenticate', credential: token })
    for (const [id, { subject, cursor }] of subscriptions) say(opened, { type: 'watch', id, subject, after: cursor })
    become('open', 0)
  }

  /** A connection that says nothing is dead, whatever the operating system thinks of it. */
  function expectNews(opened: Socket) {
    clearTimeout(silence)
    silence = setTimeout(() => {
      opened.onclose?.({ code: 1006 })
      opened.close()
    }, quietMs * 2)
  }

  function heard(opened: Socket, message: LiveServerMessageWire) {
    switch (message.type) {
      case 'welcome':
      case 'authenticated':
        return
      case 'still_here':
        for (const { id, cursor } of message.cursors) advance(id, cursor)
        return
      case 'refused':
        return refused(message.id, message.code, message.detail)
      case 'event':
        advance(message.id, message.event.cursor)
        break
      case 'missed':
        advance(message.id, message.cursor)
        break
      case 'watching':
        if (subscriptions.get(message.id)?.subject.name !== 'task') advance(message.id, 0, message.cursor)
        break
      case 'gpus':
      case 'wallet':
      case 'done':
    }
    const listener = subscriptions.get(message.id)?.listener
    if (message.type === 'done') remove(message.id, opened)
    listener?.message(message)
  }

  /** `start`: where a subject begins that had no cursor yet. */
  function advance(id: number, cursor: number, start?: number) {
    const subscription = subscriptions.get(id)
    if (!subscription) return
    if (start === undefined) subscription.cursor = Math.max(subscription.cursor ?? 0, cursor)
    else subscription.cursor ??= start
  }

  function refused(id: number, code: string, detail: string) {
    const { listener } = subscriptions.get(id) ?? {}
    subscriptions.delete(id)
    listener?.failed?.(new OrbyteError({ code: code as ErrorCode, detail, request: `live ${url}` }))
  }

  async function lost(code: number, { credential, lastedMs }: { credential: string | null; lastedMs: number }) {
    clearTimeout(silence)
    if (subscriptions.size === 0) return become('idle', 0)
    const failures = lastedMs > steadyMs ? 0 : state.failures + 1
    become('waiting', failures)
    if (code === liveCloseCodes.unauthenticated && credential !== null) {
      const newer = await tokens.renew(credential).catch(() => credential)
      if (newer === null) refuseAllButMarket()
      else if (newer !== credential) return open()
    }
    clearTimeout(timer)
    timer = setTimeout(open, backoffMs(delays, Math.max(0, failures - 1)))
  }

  function refuseAllButMarket() {
    for (const [id, { subject }] of subscriptions)
      if (subject.name !== 'market') refused(id, 'unauthenticated', 'Your session has ended. Log in again.')
  }

  function remove(id: number, opened: Socket | null) {
    subscriptions.delete(id)
    if (subscriptions.size > 0) return
    clearTimeout(timer)
    clearTimeout(silence)
    socket = null
    opened?.close()
    become('idle', 0)
  }

  return {
    watch(subject, listener, { after } = {}) {
      const id = made++ % 1_000_000
      subscriptions.set(id, { subject, listener, cursor: after })
      if (state.status === 'open' && socket) say(socket, { type: 'watch', id, subject, after })
      else if (!socket && state.status === 'idle') open()
      return () => {
        if (!subscriptions.has(id)) return
        if (state.status === 'open' && socket) say(socket, { type: 'unwatch', id })
        remove(id, socket)
      }
    },
    state: () => state,
    onState(listen) {
      listeners.add(listen)
      return () => listeners.delete(listen)
    },
    reconnect() {
      const before = socket
      socket = null
      before?.close()
      clearTimeout(silence)
      become('idle', 0)
      open()
    },
  }
}

function say(socket: Socket, message: LiveClientMessage) {
  socket.send(JSON.stringify(message))
}
