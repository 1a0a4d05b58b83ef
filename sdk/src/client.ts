import { type Api, api, type Endpoint, type InputOf, type OutputOf } from '@orbyte/protocol'
import { type CallOptions, type Connection, createConnection } from './connection.ts'
import { OrbyteError } from './orbyte-error.ts'
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
  /** Default: the platform's. */
  fetch?: typeof fetch
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
}

export function createClient(options: ClientOptions): Client {
  const { token } = options
  const first = typeof token === 'string' ? { access_token: token, refresh_token: null } : (token ?? null)
  const connection = createConnection({
    url: options.url,
    fetch: options.fetch ?? ((...parameters) => fetch(...parameters)),
    store: options.tokenStore ?? memoryTokenStore(first, options.onTokens),
    retry: { ...defaultRetry, ...options.retry },
    replyMsMax: options.replyMsMax ?? 60_000,
    silenceMsMax: options.silenceMsMax ?? 60_000,
  })
  const groups = Object.entries(api).map(([name, endpoints]) => [
    name,
    callsOf(endpoints as Record<string, Endpoint>, connection),
  ])
  return { ...(Object.fromEntries(groups) as Groups), setTokens: (tokens) => connection.tokens.replace(tokens) }
}

function callsOf(endpoints: Record<string, Endpoint>, connection: Connection) {
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
