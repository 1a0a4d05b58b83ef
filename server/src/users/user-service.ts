import { problem, type Role, type User } from '@orbyte/protocol'
import { type Context, newId, nowIso } from '../context.ts'
import type { Reader, Transaction } from '../db/database.ts'
import { type Page, pageFrom, type PageInput, startOf } from '../http/page.ts'
import type { AuthenticationService } from './authentication-service.ts'
import { unusableHash } from './password.ts'
import { deleteSessionsOf } from './session-store.ts'
import {
  insertUser,
  updatePassword,
  updateStatus,
  userByEmail,
  userById,
  type UserRow,
  usersBefore,
  userView,
} from './user-store.ts'

export type NewAccount = { email: string; name: string | null; role: Role; passwordHash: string }
type StatusListener = (userId: string, status: User['status']) => void

export type UserService = ReturnType<typeof createUserService>

/** The market's users, for other features. What users do with their own accounts is in account-service.ts. */
export function createUserService(context: Context, authentication: AuthenticationService) {
  const statusListeners: StatusListener[] = []

  async function existing(tx: Reader, userId: string): Promise<UserRow> {
    const user = await userById(tx, userId)
    if (!user || user.status === 'closed')
      throw problem('not_found', `There is no user ${userId}, or the account is closed.`)
    return user
  }

  return {
    async find(reader: Reader, userId: string): Promise<User | null> {
      const user = await userById(reader, userId)
      return user ? userView(user) : null
    },

    async isActive(reader: Reader, userId: string): Promise<boolean> {
      return (await userById(reader, userId))?.status === 'active'
    },

    /** Newest first. `email`: part of the address. */
    async list({ email, ...page }: PageInput & { email?: string | undefined }): Promise<Page<User>> {
      const query = { before: startOf(page), limit: page.limit + 1, emailPart: email?.trim().toLowerCase() ?? null }
      const rows = await context.database.read((reader) => usersBefore(reader, query))
      return pageFrom(rows.map(userView), page.limit)
    },

    /** `passwordHash` from `passwords.hash`, made before the transaction. Throws `email_taken`. */
    async create(tx: Transaction, account: NewAccount): Promise<User> {
      const email = account.email.trim().toLowerCase()
      await refuseTaken(tx, email)
      const id = newId(context, 'user')
      await insertUser(tx, { ...account, id, email, at: nowIso(context) })
      return userView((await userById(tx, id))!)
    },

    /** An account of the market's own, which nobody can log in to. */
    async createOwn(tx: Transaction, name: string): Promise<string> {
      const id = newId(context, 'user')
      const account = { id, name, email: null, role: 'user' as const, passwordHash: unusableHash, at: nowIso(context) }
      await insertUser(tx, account)
      return id
    },

    /** In force for requests, sessions and keys from the commit on. Throws `not_found`, also for a closed account. */
    async setStatus(
      tx: Transaction,
      userId: string,
      { status, reason }: { status: User['status']; reason: string | null },
    ): Promise<User> {
      const user = await existing(tx, userId)
      await updateStatus(tx, { id: userId, status, reason, at: nowIso(context) })
      authentication.forgetUser(tx, userId)
      tx.afterCommit(() => {
        for (const listen of statusListeners) listen(userId, status)
      })
      return userView({ ...user, status })
    },

    /** Ends the user's sessions, but `keptSessionId`. Throws `not_found`. */
    async setPassword(
      tx: Transaction,
      userId: string,
      { passwordHash, keptSessionId = null }: { passwordHash: string; keptSessionId?: string | null },
    ): Promise<void> {
      await existing(tx, userId)
      await updatePassword(tx, { id: userId, passwordHash, at: nowIso(context) })
      await deleteSessionsOf(tx, userId, keptSessionId)
      authentication.forgetUser(tx, userId)
    },

    /** `listen` is called after the commit and must not throw. */
    onStatusChanged(listen: StatusListener): void {
      statusListeners.push(listen)
    },
  }
}

export async function refuseTaken(reader: Reader, email: string): Promise<void> {
  if (await userByEmail(reader, email))
    throw problem('email_taken', `An account with ${email} exists. Log in, or use another address.`)
}
