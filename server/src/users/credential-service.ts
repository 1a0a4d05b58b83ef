import { type ApiKey, problem } from '@orbyte/protocol'
import { type Context, isoFromMs, newId } from '../context.ts'
import { type Page, pageFrom, type PageInput, startOf } from '../http/page.ts'
import type { Caller } from '../http/route.ts'
import type { AuthenticationService } from './authentication-service.ts'
import {
  credentialByHash,
  type CredentialKind,
  type CredentialRow,
  credentialsBefore,
  deleteCredential,
  insertCredential,
  setCredentialLastUsed,
} from './credential-store.ts'
import { hashSecret, makeSecret, secretPrefixes } from './secret.ts'
import { userById } from './user-store.ts'

const dayMs = 86_400_000
/** Characters after the prefix that a list shows: enough to recognise a secret by, too few to help guess it. */
const shownCharacters = 6
const lastUsedEveryMs = 60_000

/** What API keys and agent tokens have in common on the wire. */
export type Credential = ApiKey
export type NewCredential = { name: string; expires_in_days?: number | undefined }
type Created = { credential: Credential; secret: string }

export type CredentialService = ReturnType<typeof createCredentialService>

/** Long-lived secrets that users make for their programs (API keys) and their machines (agent tokens). */
export function createCredentialService(context: Context, authentication: AuthenticationService) {
  async function create(kind: CredentialKind, userId: string, input: NewCredential): Promise<Created> {
    const secret = makeSecret(context.random, secretPrefixes[kind])
    const nowMs = context.clock.now()
    const row: CredentialRow = {
      id: newId(context, kind),
      user_id: userId,
      name: input.name,
      prefix: secret.slice(0, secretPrefixes[kind].length + shownCharacters),
      secret_hash: hashSecret(secret),
      created_at: isoFromMs(nowMs),
      last_used_at: null,
      expires_at: input.expires_in_days === undefined ? null : isoFromMs(nowMs + input.expires_in_days * dayMs),
    }
    await context.database.transaction((tx) => insertCredential(tx, kind, row))
    return { credential: credentialView(row), secret }
  }

  return {
    async list(kind: CredentialKind, { userId }: Caller, page: PageInput): Promise<Page<Credential>> {
      const query = { userId, before: startOf(page), limit: page.limit + 1 }
      const rows = await context.database.read((reader) => credentialsBefore(reader, kind, query))
      return pageFrom(rows.map(credentialView), page.limit)
    },

    /** Not for whoever has a key: revoking one that was stolen ends what it opened, and left no other behind. */
    async createApiKey({ userId, sessionId }: Caller, input: NewCredential) {
      if (sessionId === null)
        throw problem('forbidden', 'An API key makes no other key. Log in at POST /api/auth/token, then create it.')
      const { credential, secret } = await create('apiKey', userId, input)
      return { ...credential, key: secret }
    },

    async createAgentToken({ userId }: Caller, input: NewCredential) {
      const { credential, secret } = await create('agentToken', userId, input)
      return { ...credential, token: secret }
    },

    async revoke(kind: CredentialKind, { userId }: Caller, id: string) {
      const deleted = await context.database.transaction((tx) => {
        authentication.forgetUser(tx, userId)
        return deleteCredential(tx, kind, { id, userId })
      })
      if (deleted === 0) throw problem('not_found', `There is no ${id} among yours. It may be revoked already.`)
      return { ok: true as const }
    },

    /** Whose machine shows this token; null if nobody's, any more. */
    async verifyAgentToken(token: string): Promise<{ userId: string; agentTokenId: string } | null> {
      const { row, user } = await context.database.read(async (reader) => {
        const row = await credentialByHash(reader, 'agentToken', hashSecret(token))
        return { row, user: row && (await userById(reader, row.user_id)) }
      })
      const nowMs = context.clock.now()
      if (!row || user?.status !== 'active') return null
      if (row.expires_at !== null && Date.parse(row.expires_at) <= nowMs) return null
      if (row.last_used_at === null || nowMs - Date.parse(row.last_used_at) >= lastUsedEveryMs) noteUse(row.id, nowMs)
      return { userId: row.user_id, agentTokenId: row.id }
    },
  }

  /** Nobody waits for it. */
  function noteUse(id: string, nowMs: number) {
    context.database
      .transaction((tx) => setCredentialLastUsed(tx, 'agentToken', { id, at: isoFromMs(nowMs) }))
      .catch((error: unknown) => context.log.warn({ error }, 'the time of a last use was not written'))
  }
}

/** What its owner may see of it ever after. */
export function credentialView({ id, name, prefix, created_at, last_used_at, expires_at }: CredentialRow): Credential {
  return { id, name, prefix, created_at, last_used_at, expires_at }
}
