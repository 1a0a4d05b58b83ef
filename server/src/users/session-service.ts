import { encodeBase32, problem, type Role, type Session, type TokenPair } from '@orbyte/protocol'
import { type Context, isoFromMs, newId, nowIso } from '../context.ts'
import type { Transaction } from '../db/database.ts'
import type { Caller } from '../http/route.ts'
import { type AuthenticationService, suspended } from './authentication-service.ts'
import type { Passwords } from './password.ts'
import { hashSecret, secretPrefixes } from './secret.ts'
import {
  deleteSession,
  deleteStaleSessions,
  insertSession,
  rotateRefreshToken,
  sessionByFamily,
  sessionsOf,
} from './session-store.ts'
import { userByEmail, userById } from './user-store.ts'

/** A login beyond these ends the session that was used longest ago. */
const sessionsPerUserMax = 100

/**
 * A refresh token is the session's family secret, which stays, and a part that is new each time. Whoever shows the family
 * secret with an old part has a copy of a token that was used: the session ends for both of its holders.
 */
const refreshTokenPattern = new RegExp(`^${secretPrefixes.refreshToken}([0-9a-z]{32})([0-9a-z]{32})$`)
const partBytes = 20

/**
 * A page that is left or reloaded while it renews its login never sees the answer, and several tabs share one cookie. So an
 * exchange of a cookie's token is repeated, with the same outcome, for so long.
 */
const repeatMs = 30_000

type Renewed = { outcome: 'renewed'; sessionId: string; userId: string; role: Role; refreshToken: string }
/** As an access token is never without the refresh token that renews it here. */
type IssuedTokens = TokenPair & { refresh_token: string }
type Refused = { outcome: 'unknown' | 'reused' | 'expired' | 'suspended' }

export type SessionService = ReturnType<typeof createSessionService>

/** Logging in, staying logged in, and ending it. */
export function createSessionService(
  context: Context,
  { authentication, passwords }: { authentication: AuthenticationService; passwords: Passwords },
) {
  const makePart = () => encodeBase32(context.random.bytes(partBytes))
  /** By hash of the token that was exchanged, in the order of their age. */
  const exchanged = new Map<string, { atMs: number; result: Promise<Renewed | Refused> }>()

  const exchange = (family: string, part: string) => context.database.transaction((tx) => renew(tx, family, part))

  async function exchangeOfCookie(family: string, part: string): Promise<Renewed | Refused> {
    const nowMs = context.clock.now()
    for (const [hash, { atMs }] of exchanged) if (nowMs - atMs >= repeatMs) exchanged.delete(hash)
    const hash = hashSecret(family + part)
    const before = await exchanged.get(hash)?.result
    if (before?.outcome === 'renewed' && (await isCurrent(before))) return before
    const result = exchange(family, part)
    exchanged.set(hash, { atMs: nowMs, result })
    result.catch(() => exchanged.delete(hash))
    return result
  }

  /** Whether its session lives, and nothing newer was exchanged. */
  async function isCurrent({ refreshToken }: Renewed): Promise<boolean> {
    const [, family, part] = refreshTokenPattern.exec(refreshToken)!
    const session = await context.database.read((reader) => sessionByFamily(reader, hashSecret(family!)))
    return session?.refresh_token_hash === hashSecret(part!)
  }

  async function tokenPair({ refreshToken, ...holder }: Omit<Renewed, 'outcome'>): Promise<IssuedTokens> {
    return {
      access_token: await authentication.tokens.sign(holder),
      token_type: 'bearer',
      expires_in: Math.floor(context.config.accessTokenMs / 1_000),
      refresh_token: refreshToken,
    }
  }

  /** A session outlives the access tokens that it gives. */
  const ageMsMax = Math.max(context.config.refreshTokenMs, context.config.accessTokenMs)
  const expiresAt = () => isoFromMs(context.clock.now() + ageMsMax)

  async function open(tx: Transaction, userId: string, userAgent: string | null) {
    const now = nowIso(context)
    const [family, part] = [makePart(), makePart()]
    const id = newId(context, 'session')
    await insertSession(tx, {
      id,
      user_id: userId,
      family_hash: hashSecret(family),
      refresh_token_hash: hashSecret(part),
      user_agent: userAgent,
      created_at: now,
      last_used_at: now,
      expires_at: expiresAt(),
    })
    const ended = await deleteStaleSessions(tx, { userId, now, kept: sessionsPerUserMax })
    if (ended > 0) authentication.forgetUser(tx, userId)
    return { sessionId: id, refreshToken: secretPrefixes.refreshToken + family + part }
  }

  async function renew(tx: Transaction, family: string, part: string): Promise<Renewed | Refused> {
    const session = await sessionByFamily(tx, hashSecret(family))
    const user = session && (await userById(tx, session.user_id))
    if (!session || !user) return { outcome: 'unknown' }
    if (session.refresh_token_hash !== hashSecret(part)) {
      await end(tx, session.id, user.id)
      return { outcome: 'reused' }
    }
    if (session.expires_at <= nowIso(context)) return { outcome: 'expired' }
    if (user.status !== 'active') return { outcome: 'suspended' }
    const next = makePart()
    const renewal = { refreshTokenHash: hashSecret(next), at: nowIso(context), expiresAt: expiresAt() }
    await rotateRefreshToken(tx, { id: session.id, ...renewal })
    const refreshToken = secretPrefixes.refreshToken + family + next
    return { outcome: 'renewed', sessionId: session.id, userId: user.id, role: user.role, refreshToken }
  }

  async function end(tx: Transaction, sessionId: string, userId: string): Promise<boolean> {
    authentication.forgetUser(tx, userId)
    return (await deleteSession(tx, sessionId, userId)) > 0
  }

  return {
    /** How long a session lasts that is not renewed. */
    ageMsMax,

    async logIn(
      { username, password }: { username: string; password: string },
      caller: Pick<Caller, 'userAgent'>,
    ): Promise<IssuedTokens> {
      const user = await context.database.read((reader) => userByEmail(reader, username))
      await passwords.check(username, user?.password_hash ?? null, password)
      const opened = await context.database.transaction(async (tx) => {
        const now = await userById(tx, user!.id)
        if (now?.password_hash !== user!.password_hash)
          throw problem('invalid_credentials', 'The password was changed. Log in again.')
        if (now.status !== 'active') throw suspended()
        return { ...(await open(tx, now.id, caller.userAgent)), userId: now.id, role: now.role }
      })
      return tokenPair(opened)
    },

    /** `fromCookie`: the exchange may be repeated for a while. */
    async refresh(refreshToken: string, { fromCookie }: { fromCookie: boolean }): Promise<IssuedTokens> {
      const [, family, part] = refreshTokenPattern.exec(refreshToken) ?? []
      if (family === undefined || part === undefined) throw refusal('unknown')
      // A reuse is refused after the commit, not within: the refusal must not undo the end of the session.
      const result = await (fromCookie ? exchangeOfCookie : exchange)(family, part)
      if (result.outcome !== 'renewed') throw refusal(result.outcome)
      return tokenPair(result)
    },

    async logOut({ userId, sessionId }: Caller) {
      if (sessionId === null)
        throw problem('forbidden', 'An API key has no session to end. Revoke it at DELETE /api/api-keys/{api_key_id}.')
      await context.database.transaction((tx) => end(tx, sessionId, userId))
      return { ok: true as const }
    },

    async list(caller: Caller): Promise<{ items: Session[] }> {
      const rows = await context.database.read((reader) => sessionsOf(reader, caller.userId, nowIso(context)))
      return {
        items: rows.map(({ id, user_agent, created_at, last_used_at, expires_at }) => {
          return { id, user_agent, created_at, last_used_at, expires_at, current: id === caller.sessionId }
        }),
      }
    },

    async revoke({ userId }: Caller, sessionId: string) {
      const found = await context.database.transaction((tx) => end(tx, sessionId, userId))
      if (!found)
        throw problem('not_found', `You have no session ${sessionId}. List yours with GET /api/auth/sessions.`)
      return { ok: true as const }
    },
  }
}

function refusal(outcome: Refused['outcome']) {
  switch (outcome) {
    case 'unknown':
      return problem('unauthenticated', 'This refresh token is not known, or its session has ended. Log in again.')
    case 'reused':
      return problem(
        'unauthenticated',
        'This refresh token was used before, so somebody may have a copy: its session has ended. Log in again.',
      )
    case 'expired':
      return problem('token_expired', 'The refresh token has expired. Log in again at POST /api/auth/token.')
    case 'suspended':
      return suspended()
  }
}
