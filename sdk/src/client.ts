import type { Api, Endpoint, InputOf, OutputOf } from '@orbyte/protocol'
import { type CallOptions, type Connection, createConnection } from './connection.ts'
import { endpointTable } from './endpoint-table.ts'
import { createLive, type Live, platformWebSocket, type WebSocketConstructor } from './live.ts'
import { OrbyteError } from './orbyte-error.ts'
import type { Operation } from './request.ts'
import { defaultRetry, type Retry } from './retry.ts'
import { memoryTokenStore, type Tokens, type TokenStore } from './tokens.ts'

export type ClientOptions = {
  /** Where the market is, like "https://market.example". */
  url: string
  /** An access token or API key; or an access token with the refresh token that renews it. */
  token?: string | Tokens
  /** Called when the tokens change: after `setTokens`, and after a renewal; null: the market does not accept them any more. */
  onTokens?: (tokens: Tokens | null) => void
  /** Instead of `token` and `onTokens`: where the tokens are kept when several processes or tabs share them. */
  tokenStore?: TokenStore
  /**
   * For pages of the market's own origin: the refresh token is in a cookie, which scripts cannot read (log in with
   * `in_cookie`). Default: false.
   */
  refreshInCookie?: boolean
  /** Default: the platform's. */
  fetch?: typeof fetch
  /** For `live` and `watch`. Default: the platform's, where it has one; null, or none: `watch` uses event streams. */
  webSocket?: WebSocketConstructor | null
  /** For calls that may be repeated: reads, and those with an idempotency key. */
  retry?: Partial<Retry>
  /** Default: 60 s. */
  replyMsMax?: number
  /** Default: 60 s. The market writes to a stream at least every 15 s. */
  silenceMsMax?: number
}

/** What a call resolves with: amounts are decimal strings in ORB, times are ISO 8601. */
export type ReplyOf<E extends Endpoint> = E['reply'] extends 'bytes'
  ? Uint8Array<ArrayBuffer>
  : E['reply'] extends 'byte-stream'
    ? AsyncIterable<Uint8Array<ArrayBuffer>>
    : E['reply'] extends 'event-stream'
      ? AsyncIterable<OutputOf<E>>
      : OutputOf<E>

export type Call<E extends Endpoint> =
  Record<never, never> extends InputOf<E>
    ? (input?: InputOf<E>, options?: CallOptions) => Promise<ReplyOf<E>>
    : (input: InputOf<E>, options?: CallOptions) => Promise<ReplyOf<E>>

type Groups = {
  readonly [G in keyof Api]: { readonly [N in keyof Api[G]]: Api[G][N] extends Endpoint ? Call<Api[G][N]> : never }
}

/** One function an endpoint: `client.tasks.create({ … })`. Each rejects with an `OrbyteError`, or with the reason of its signal. */
export type Client = Groups & {
  /** Logs this client in as whoever the tokens stand for; null logs it out. */
  setTokens(tokens: Tokens | null): Promise<void>
  /** Whether there is an access token, or one can be had with the cookie. */
  isLoggedIn(): Promise<boolean>
  /** News as they happen, over one connection; null where the platform has no WebSocket. */
  readonly live: Live | null
}

export function createClient(options: ClientOptions): Client {
  const { token } = options
  const first = typeof token === 'string' ? { access_token: token, refresh_token: null } : (token ?? null)
  const connection = createConnection({
    url: options.url,
    fetch: options.fetch ?? ((...parameters) => fetch(...parameters)),
    store: options.tokenStore ?? memoryTokenStore(first, options.onTokens),
    refreshInCookie: options.refreshInCookie ?? false,
    retry: { ...defaultRetry, ...options.retry },
    replyMsMax: options.replyMsMax ?? 60_000,
    silenceMsMax: options.silenceMsMax ?? 60_000,
  })
  const { tokens } = connection
  const webSocket = options.webSocket === undefined ? platformWebSocket() : options.webSocket
  const live = webSocket && createLive({ url: options.url, tokens, webSocket })
  const groups = Object.entries(endpointTable).map(([name, endpoints]) => [name, callsOf(endpoints, connection)])
  return {
    ...(Object.fromEntries(groups) as Groups),
    async setTokens(given) {
      await tokens.replace(given)
      live?.reconnect()
    },
    isLoggedIn: async () => ((await tokens.current()) ?? (await tokens.renew(''))) !== null,
    live,
  }
}

function callsOf(endpoints: Record<string, Operation>, connection: Connection) {
  const calls = Object.entries(endpoints).map(([name, endpoint]) => [
    name,
    (input: Record<string, unknown> = {}, options: CallOptions = {}) => connection.call(endpoint, input, options),
  ])
  return Object.fromEntries(calls) as Record<string, unknown>
}

/** Logs in with a password: the tokens become the client's own. */
export async function logIn(client: Client, { email, password }: { email: string; password: string }): Promise<void> {
  const { access_token, refresh_token } = await client.auth.token({ username: email, password })
  await client.setTokens({ access_token, refresh_token })
}

/** Ends the session and forgets its tokens. They are forgotten even if the market cannot be told: then it rejects. */
export async function logOut(client: Client): Promise<void> {
  try {
    await client.auth.logout()
  } catch (error) {
    const isOver = error instanceof OrbyteError && error.status === 401
    if (!isOver) throw error
  } finally {
    await client.setTokens(null)
  }
}
