import type { OutputOf, api } from '@orbyte/protocol'

/** What a client shows to be let in. Without a refresh token (an API key) it is used as it is until it is refused. */
export type Tokens = { access_token: string; refresh_token: string | null }
export type TokenPair = OutputOf<typeof api.auth.token>

/**
 * Where a client keeps its tokens. A refresh token works once, so whoever shares one with others (browser tabs, processes)
 * needs a store of their own: `exclusively` keeps the others out, and `read` sees what they wrote.
 */
export type TokenStore = {
  read(): Promise<Tokens | null>
  /** Null: logged out. */
  write(tokens: Tokens | null): Promise<void>
  /** Runs `work` while nobody else who shares the store runs theirs. */
  exclusively<T>(work: () => Promise<T>): Promise<T>
}

export function memoryTokenStore(first: Tokens | null, onTokens?: (tokens: Tokens | null) => void): TokenStore {
  let tokens = first
  return {
    read: async () => tokens,
    async write(next) {
      tokens = next
      onTokens?.(next)
    },
    exclusively: (work) => work(),
  }
}

export type TokenKeeper = {
  current(): Promise<string | null>
  /** A newer access token than `refused`, or null if there is no way to one. Concurrent calls share one renewal. */
  renew(refused: string): Promise<string | null>
  replace(tokens: Tokens | null): Promise<void>
}

type Keeping = {
  store: TokenStore
  /** The refresh token is in a cookie of the market's own pages: whoever has none may still have that. */
  refreshInCookie: boolean
  /** Spends a refresh token; resolves with null when the market refuses it. */
  exchange: (refreshToken: string | null) => Promise<TokenPair | null>
}

export function createTokenKeeper({ store, refreshInCookie, exchange }: Keeping): TokenKeeper {
  let renewal: Promise<string | null> | null = null

  async function renewNow(refused: string): Promise<string | null> {
    const tokens = await store.read()
    if (tokens && tokens.access_token !== refused) return tokens.access_token
    if (!tokens?.refresh_token && !refreshInCookie) return null
    const pair = await exchange(tokens?.refresh_token ?? null)
    await store.write(pair)
    return pair?.access_token ?? null
  }

  return {
    current: async () => (await store.read())?.access_token ?? null,
    renew(refused) {
      renewal ??= store
        .exclusively(() => renewNow(refused))
        .finally(() => {
          renewal = null
        })
      return renewal
    },
    replace: (tokens) => store.exclusively(() => store.write(tokens)),
  }
}
