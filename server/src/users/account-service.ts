import { type JsonObject, problem, type User } from '@orbyte/protocol'
import type { z } from 'zod'
import { type Context, nowIso } from '../context.ts'
import type { Reader, Transaction } from '../db/database.ts'
import type { Caller } from '../http/route.ts'
import { credentialView } from './credential-service.ts'
import { credentialsOf, deleteCredentialsOf } from './credential-store.ts'
import { type Passwords, unusableHash } from './password.ts'
import { deleteSessionsOf, sessionsOf } from './session-store.ts'
import { refuseTaken, type UserService } from './user-service.ts'
import { updatePassword, updateProfile, userById, type UserRow, userView } from './user-store.ts'

export type Json = z.output<typeof JsonObject>[string]
/** What a feature knows about a user. */
export type Contribution = (reader: Reader, userId: string) => Promise<Json>
/** Throws `account_has_obligations` where something must end first, or ends it itself. */
export type ClosingCheck = (tx: Transaction, userId: string) => Promise<void>

type ProfileChange = {
  name?: string | null | undefined
  email?: string | undefined
  current_password?: string | undefined
}

export type AccountService = ReturnType<typeof createAccountService>

/** What users do with their own accounts. */
export function createAccountService(
  context: Context,
  { users, passwords }: { users: UserService; passwords: Passwords },
) {
  const contributions = new Map<string, Contribution>([
    ['sessions', (reader, userId) => exportSessions(reader, userId, nowIso(context))],
    ['api_keys', exportCredentials('apiKey')],
    ['agent_tokens', exportCredentials('agentToken')],
  ])
  const closingChecks: ClosingCheck[] = []

  /** The caller, whose current password this is. */
  async function confirm({ userId }: Caller, password: string): Promise<UserRow> {
    const user = await context.database.read((reader) => userById(reader, userId))
    await passwords.check(user!.email!, user!.password_hash, password)
    return user!
  }

  return {
    async register(input: { email: string; password: string; name?: string | undefined }): Promise<User> {
      const { email, password, name = null } = input
      // Before the hash, which costs more; it is asked again within the transaction.
      await context.database.read((reader) => refuseTaken(reader, email))
      const passwordHash = await passwords.hash(password)
      return context.database.transaction((tx) => users.create(tx, { email, name, role: 'user', passwordHash }))
    },

    async me({ userId }: Caller): Promise<User> {
      return userView((await context.database.read((reader) => userById(reader, userId)))!)
    },

    async update(caller: Caller, change: ProfileChange): Promise<User> {
      const before = await context.database.read((reader) => userById(reader, caller.userId))
      const email = change.email ?? before!.email
      const confirmed = email === before!.email ? null : await confirmEmailChange(caller, change.current_password)
      return context.database.transaction(async (tx) => {
        const user = (await userById(tx, caller.userId))!
        if (confirmed) refuseOutdated(user, confirmed)
        if (confirmed) await refuseTaken(tx, email!)
        const name = change.name === undefined ? user.name : change.name
        await updateProfile(tx, { id: user.id, name, email: confirmed ? email : user.email, at: nowIso(context) })
        return userView((await userById(tx, user.id))!)
      })
    },

    async changePassword(caller: Caller, input: { current_password: string; new_password: string }) {
      const confirmed = await confirm(caller, input.current_password)
      const passwordHash = await passwords.hash(input.new_password)
      await context.database.transaction(async (tx) => {
        refuseOutdated((await userById(tx, caller.userId))!, confirmed)
        await users.setPassword(tx, caller.userId, { passwordHash, keptSessionId: caller.sessionId })
      })
      return { ok: true as const }
    },

    /** Everything that is stored about the caller, from one moment. */
    export({ userId }: Caller): Promise<Record<string, Json>> {
      return context.database.read(async (reader) => {
        const user = await userById(reader, userId)
        const document: Record<string, Json> = { exported_at: nowIso(context), profile: userView(user!) }
        for (const [name, contribution] of contributions) document[name] = await contribution(reader, userId)
        return document
      })
    },

    async close(caller: Caller, currentPassword: string) {
      const confirmed = await confirm(caller, currentPassword)
      await context.database.transaction(async (tx) => {
        refuseOutdated((await userById(tx, caller.userId))!, confirmed)
        for (const check of closingChecks) await check(tx, caller.userId)
        await users.setStatus(tx, caller.userId, { status: 'closed', reason: null })
        await anonymise(tx, caller.userId, nowIso(context))
      })
      return { ok: true as const }
    },

    /** Adds a feature's part to the export, as the field `name`. */
    contribute(name: string, contribution: Contribution): void {
      contributions.set(name, contribution)
    },

    /** Adds what a feature has to say before an account closes. */
    onClose(check: ClosingCheck): void {
      closingChecks.push(check)
    },
  }

  function confirmEmailChange(caller: Caller, password: string | undefined): Promise<UserRow> {
    if (password === undefined)
      throw problem('invalid_request', 'current_password: give your password to change the email address.')
    return confirm(caller, password)
  }
}

/** The password that was checked before the transaction must still be the one. */
function refuseOutdated(now: UserRow, confirmed: UserRow) {
  if (now.password_hash !== confirmed.password_hash)
    throw problem('invalid_credentials', 'The password was changed meanwhile. Try again with the new one.')
}

/** The id stays, because the ledger's history names it; who it was goes. */
async function anonymise(tx: Transaction, userId: string, at: string) {
  await updateProfile(tx, { id: userId, name: null, email: null, at })
  await updatePassword(tx, { id: userId, passwordHash: unusableHash, at })
  await deleteSessionsOf(tx, userId, null)
  await deleteCredentialsOf(tx, userId)
}

async function exportSessions(reader: Reader, userId: string, now: string): Promise<Json> {
  const rows = await sessionsOf(reader, userId, now)
  return rows.map(({ id, user_agent, created_at, last_used_at, expires_at }) => {
    return { id, user_agent, created_at, last_used_at, expires_at }
  })
}

function exportCredentials(kind: 'apiKey' | 'agentToken'): Contribution {
  return async (reader, userId) => {
    return (await credentialsOf(reader, kind, userId)).map(credentialView)
  }
}
