import { problem } from '@orbyte/protocol'
import { type Context, isoFromMs } from '../context.ts'
import type { Transaction } from '../db/database.ts'
import type { Principal } from '../http/route.ts'
import { accessTokenExpired, createAccessTokens } from './access-token.ts'
import { credentialByHash, setCredentialLastUsed } from './credential-store.ts'
import { hashSecret, secretPrefixes } from './secret.ts'
import { sessionById, setSessionLastUsed } from './session-store.ts'
import { userById, type UserRow } from './user-store.ts'

/** How many credentials are remembered: about 10 MB. */
const rememberedMax = 10_000
/** `last_used_at` is this exact. */
const lastUsedEveryMs = 60_000

type Source = { kind: 'session' | 'apiKey'; id: string } | null
type Remembered = { principal: Principal; expiresMs: number; source: Source; lastUsedMs: number }

export type AuthenticationService = ReturnType<typeof createAuthenticationService>

/**
 * Says who a credential stands for. What was found out is remembered, so that a request costs a look into a map, until the
 * credential expires or anything about its user changes: every change calls `forgetUser`, and takes effect at once.
 */
export function createAuthenticationService(context: Context) {
  const tokens = createAccessTokens(context)
  const remembered = new Map<string, Remembered>()
  const listeners = new Set<(userId: string) => void>()
  let changes = 0

  async function authenticate(credential: string): Promise<Principal> {
    const found = remembered.get(credential) ?? (await recognise(credential))
    if (found.expiresMs <= context.clock.now()) {
      remembered.delete(credential)
      throw found.source?.kind === 'apiKey' ? apiKeyExpired() : accessTokenExpired()
    }
    noteUse(found)
    return found.principal
  }

  async function recognise(credential: string): Promise<Remembered> {
    const changesBefore = changes
    const found = credential.startsWith(secretPrefixes.apiKey)
      ? await byApiKey(context, credential)
      : await byAccessToken(credential)
    // Something changed while this was being read: it may be out of date already.
    if (changes !== changesBefore) return found
    remembered.set(credential, found)
    if (remembered.size > rememberedMax) remembered.delete(remembered.keys().next().value!)
    return found
  }

  async function byAccessToken(token: string): Promise<Remembered> {
    const claims = await tokens.verify(token)
    if (claims.holder === 'operator') return operator(claims.expiresMs)
    return bySession(context, claims)
  }

  function noteUse(found: Remembered) {
    const { source } = found
    const nowMs = context.clock.now()
    if (source === null || nowMs - found.lastUsedMs < lastUsedEveryMs) return
    found.lastUsedMs = nowMs
    const at = isoFromMs(nowMs)
    context.database
      .transaction((tx) =>
        source.kind === 'session'
          ? setSessionLastUsed(tx, source.id, at)
          : setCredentialLastUsed(tx, source.kind, { id: source.id, at }),
      )
      .catch((error: unknown) => context.log.warn({ error }, 'the time of a last use was not written'))
  }

  return {
    authenticate,
    tokens,
    /** To be called in every transaction that ends a session or a key, or changes a user's role or status. */
    forgetUser(tx: Transaction, userId: string): void {
      tx.afterCommit(() => {
        changes++
        for (const [credential, { principal }] of remembered)
          if (principal.userId === userId) remembered.delete(credential)
        for (const listen of listeners) listen(userId)
      })
    },

    /**
     * What was opened with a credential and is still open has to be asked for again. `listen` must not throw. The result
     * unsubscribes.
     */
    onForgotten(listen: (userId: string) => void): () => void {
      listeners.add(listen)
      return () => listeners.delete(listen)
    },
  }
}

function operator(expiresMs: number): Remembered {
  return { principal: { userId: null, role: 'admin', sessionId: null }, expiresMs, source: null, lastUsedMs: 0 }
}

async function bySession(
  { database }: Context,
  claims: { userId: string; sessionId: string; expiresMs: number },
): Promise<Remembered> {
  const { session, user } = await database.read(async (reader) => ({
    session: await sessionById(reader, claims.sessionId),
    user: await userById(reader, claims.userId),
  }))
  if (!session || session.user_id !== claims.userId)
    throw problem('unauthenticated', 'This session has ended. Log in again at POST /api/auth/token.')
  return {
    principal: { ...principalOf(user), sessionId: session.id },
    expiresMs: claims.expiresMs,
    source: { kind: 'session', id: session.id },
    lastUsedMs: Date.parse(session.last_used_at),
  }
}

async function byApiKey({ database }: Context, key: string): Promise<Remembered> {
  const { row, user } = await database.read(async (reader) => {
    const row = await credentialByHash(reader, 'apiKey', hashSecret(key))
    return { row, user: row && (await userById(reader, row.user_id)) }
  })
  if (!row)
    throw problem('unauthenticated', 'There is no such API key, or it was revoked. Create one at POST /api/api-keys/.')
  return {
    principal: { ...principalOf(user), sessionId: null },
    expiresMs: row.expires_at === null ? Infinity : Date.parse(row.expires_at),
    source: { kind: 'apiKey', id: row.id },
    lastUsedMs: row.last_used_at === null ? -Infinity : Date.parse(row.last_used_at),
  }
}

function principalOf(user: UserRow | undefined): Pick<Principal, 'userId' | 'role'> {
  if (user?.status === 'suspended') throw suspended()
  if (user?.status !== 'active') throw problem('unauthenticated', 'This account is closed. Register a new one.')
  return { userId: user.id, role: user.role }
}

export function suspended() {
  return problem('user_suspended', 'This account is suspended. Write to the operator of this market.')
}

function apiKeyExpired() {
  return problem('token_expired', 'The API key has expired. Log in and create another at POST /api/api-keys/.')
}
