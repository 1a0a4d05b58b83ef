import { encodeBase32 } from '@orbyte/protocol'
import { endpointTable } from './endpoint-table.ts'
import { eventsOfStream } from './event-stream.ts'
import { errorOfReply, notAMarket, OrbyteError, parseJson, unreachable } from './orbyte-error.ts'
import { type HttpRequest, type Operation, requestOf } from './request.ts'
import { type Retry, withRetries } from './retry.ts'
import { createTokenKeeper, type TokenKeeper, type TokenPair, type TokenStore } from './tokens.ts'

export type CallOptions = {
  /**
   * Makes a repetition of this call harmless for 24 hours, also from another process. Endpoints that take one get a random
   * one by themselves, so that a lost reply is asked for again.
   */
  idempotencyKey?: string
  /** Stops the call, and whatever waits for it. */
  signal?: AbortSignal
  /** How long to wait for the first byte of this reply, where the client's own limit does not do. */
  replyMsMax?: number
}
export type ConnectionOptions = {
  url: string
  fetch: typeof fetch
  store: TokenStore
  refreshInCookie: boolean
  retry: Retry
  /** How long to wait for the first byte of a reply, in milliseconds; and for the whole of a JSON document. */
  replyMsMax: number
  /** An event stream that has been silent for so long is taken for dead. */
  silenceMsMax: number
}
export type Connection = {
  readonly tokens: TokenKeeper
  call(endpoint: Operation, fields: Record<string, unknown>, options: CallOptions): Promise<unknown>
}

export function createConnection(options: ConnectionOptions): Connection {
  const tokens = createTokenKeeper({
    store: options.store,
    refreshInCookie: options.refreshInCookie,
    exchange: (refreshToken) => exchange(options, refreshToken),
  })
  return {
    tokens,
    async call(endpoint, fields, { signal, idempotencyKey, replyMsMax = options.replyMsMax }) {
      const request = requestOf(endpoint, fields, options.url)
      if (endpoint.idempotent) request.init.headers['idempotency-key'] = idempotencyKey ?? randomKey()
      const repeatable = endpoint.method === 'GET' || endpoint.idempotent
      const send = () => sendAuthorised({ endpoint, request, options: { ...options, replyMsMax }, tokens, signal })
      return withRetries(send, { retry: options.retry, repeatable, signal })
    },
  }
}

// `randomUUID` exists on secure origins only; a market on a local network is often plain http.
const randomKey = () => encodeBase32(crypto.getRandomValues(new Uint8Array(15)))

/** Never sent twice: a refresh token works once, and the market takes a second use for theft. Null: it is in a cookie. */
async function exchange(options: ConnectionOptions, refreshToken: string | null): Promise<TokenPair | null> {
  const endpoint = endpointTable.auth.refresh
  const fields = refreshToken === null ? {} : { refresh_token: refreshToken }
  try {
    return (await send({
      endpoint,
      request: requestOf(endpoint, fields, options.url),
      options,
      signal: undefined,
    })) as TokenPair
  } catch (error) {
    // 400: there is no cookie.
    if (error instanceof OrbyteError && (error.status === 401 || error.status === 400)) return null
    throw error
  }
}

type Sending = {
  endpoint: Operation
  request: HttpRequest
  options: ConnectionOptions
  signal: AbortSignal | undefined
}

/** An access token that has expired is renewed and the call sent again: the market did nothing the first time. */
async function sendAuthorised({ tokens, ...sending }: Sending & { tokens: TokenKeeper }): Promise<unknown> {
  const token = await tokens.current()
  try {
    return await send(withToken(sending, token))
  } catch (error) {
    const isRefused = error instanceof OrbyteError && ['unauthenticated', 'token_expired'].includes(error.code)
    const newer = isRefused && token !== null ? await tokens.renew(token) : null
    if (newer === null) throw error
    return send(withToken(sending, newer))
  }
}

function withToken(sending: Sending, token: string | null): Sending {
  if (token === null) return sending
  const { request } = sending
  const headers = { ...request.init.headers, authorization: `Bearer ${token}` }
  return { ...sending, request: { ...request, init: { ...request.init, headers } } }
}

async function send(sending: Sending): Promise<unknown> {
  const { endpoint, request, options, signal } = sending
  signal?.throwIfAborted()
  const watchdog = createWatchdog(options.replyMsMax, signal)
  try {
    const { fetch } = options
    const response = await fetch(request.url, { ...request.init, signal: watchdog.signal })
    if (!response.ok)
      throw errorOfReply({ status: response.status, text: await response.text(), request: request.name })
    if (endpoint.reply === 'event-stream') return eventsOfReply(response, { ...sending, watchdog })
    if (endpoint.reply === 'byte-stream') return bytesOfReply(response, { ...sending, watchdog })
    const reply = await readReply(endpoint, response, request)
    watchdog.stop()
    return reply
  } catch (error) {
    watchdog.stop()
    throw failureOf(error, sending)
  }
}

async function readReply(endpoint: Operation, response: Response, request: HttpRequest): Promise<unknown> {
  if (endpoint.reply === 'bytes') return new Uint8Array(await response.arrayBuffer())
  const text = await response.text()
  if (endpoint.reply === 'text') return text
  const document = parseJson(text)
  if (typeof document === 'object' && document !== null) return document
  throw notAMarket({ status: response.status, request: request.name })
}

type Streaming = Sending & { watchdog: Watchdog }

async function* eventsOfReply(response: Response, streaming: Streaming): AsyncGenerator<unknown, void, undefined> {
  const { watchdog, options, request } = streaming
  const isStream = response.headers.get('content-type')?.startsWith('text/event-stream') ?? false
  if (!isStream || !response.body) throw notAMarket({ status: response.status, request: request.name })
  watchdog.restart(options.silenceMsMax)
  try {
    for await (const { data } of eventsOfStream(response.body, () => watchdog.restart(options.silenceMsMax))) {
      const event = parseJson(data)
      if (event === undefined) throw notAMarket({ status: response.status, request: request.name })
      yield event
    }
  } catch (error) {
    throw failureOf(error, streaming)
  } finally {
    watchdog.stop()
  }
}

/** Rejects where the connection breaks off before the end. */
async function* bytesOfReply(response: Response, streaming: Streaming) {
  const { watchdog, options, request } = streaming
  if (!response.body) throw notAMarket({ status: response.status, request: request.name })
  watchdog.restart(options.silenceMsMax)
  const reader = response.body.getReader()
  try {
    for (let read = await reader.read(); !read.done; read = await reader.read()) {
      watchdog.restart(options.silenceMsMax)
      yield read.value
    }
  } catch (error) {
    throw failureOf(error, streaming)
  } finally {
    watchdog.stop()
    await reader.cancel().catch(() => {})
  }
}

/** What the caller asked to stop fails with the caller's reason; everything else that `fetch` throws is a lost connection. */
function failureOf(error: unknown, { signal, request }: Sending): unknown {
  if (signal?.aborted) return signal.reason
  return error instanceof OrbyteError ? error : unreachable(request.name, error)
}

type Watchdog = { signal: AbortSignal; restart(silenceMsMax: number): void; stop(): void }

/** Aborts when nothing came for too long, or when the caller aborts. */
function createWatchdog(firstMsMax: number, outer: AbortSignal | undefined): Watchdog {
  const controller = new AbortController()
  let timer: ReturnType<typeof setTimeout> | undefined
  const abort = () => {
    clearTimeout(timer)
    controller.abort(outer?.reason)
  }
  outer?.addEventListener('abort', abort, { once: true })
  const restart = (silenceMsMax: number) => {
    clearTimeout(timer)
    timer = setTimeout(
      () => controller.abort(new Error(`silent for ${Math.round(silenceMsMax / 1_000)} s`)),
      silenceMsMax,
    )
  }
  restart(firstMsMax)
  return {
    signal: controller.signal,
    restart,
    stop() {
      clearTimeout(timer)
      outer?.removeEventListener('abort', abort)
    },
  }
}
