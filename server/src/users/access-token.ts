import { createSecretKey } from 'node:crypto'
import { errors, jwtVerify, SignJWT } from 'jose'
import { operatorSubject, operatorTokenMsMax, problem, type Role, tokenIssuer } from '@orbyte/protocol'
import type { Context } from '../context.ts'

/** What a valid token says. Whether the session still lives and the user may come in is for the database to say. */
export type TokenClaims =
  { holder: 'user'; userId: string; sessionId: string; expiresMs: number } | { holder: 'operator'; expiresMs: number }

/** Of a clock that runs ahead of this one. */
const skewMsMax = 60_000

export type AccessTokens = ReturnType<typeof createAccessTokens>

/** JSON Web Tokens, signed with the market's secret key (HS256). */
export function createAccessTokens({ clock, config }: Pick<Context, 'clock' | 'config'>) {
  const key = createSecretKey(Buffer.from(config.secretKey, 'utf8'))
  return {
    sign({ userId, sessionId, role }: { userId: string; sessionId: string; role: Role }): Promise<string> {
      const issuedAtS = Math.floor(clock.now() / 1_000)
      return new SignJWT({ sid: sessionId, role })
        .setProtectedHeader({ alg: 'HS256', typ: 'JWT' })
        .setSubject(userId)
        .setIssuer(tokenIssuer)
        .setIssuedAt(issuedAtS)
        .setExpirationTime(issuedAtS + Math.floor(config.accessTokenMs / 1_000))
        .sign(key)
    },

    /** Throws `token_expired`, or `unauthenticated` for anything else that is not one of ours. */
    async verify(token: string): Promise<TokenClaims> {
      const nowMs = clock.now()
      const options = { algorithms: ['HS256'], issuer: tokenIssuer, currentDate: new Date(nowMs) }
      const { payload } = await jwtVerify(token, key, options).catch((error: unknown) => {
        throw error instanceof errors.JWTExpired ? accessTokenExpired() : notOurs()
      })
      const { sub, sid, iat, exp } = payload
      if (iat === undefined || exp === undefined || iat * 1_000 > nowMs + skewMsMax) throw notOurs()
      if (sub === operatorSubject) {
        const expiresMs = Math.min(exp * 1_000, iat * 1_000 + operatorTokenMsMax)
        if (expiresMs <= nowMs) throw accessTokenExpired()
        return { holder: 'operator', expiresMs }
      }
      if (sub === undefined || typeof sid !== 'string') throw notOurs()
      return { holder: 'user', userId: sub, sessionId: sid, expiresMs: exp * 1_000 }
    },
  }
}

export function accessTokenExpired() {
  return problem(
    'token_expired',
    'The access token has expired. Get a new one at POST /api/auth/refresh, or log in again.',
  )
}

function notOurs() {
  return problem(
    'unauthenticated',
    'This is no access token or API key of this market. Log in at POST /api/auth/token.',
  )
}
