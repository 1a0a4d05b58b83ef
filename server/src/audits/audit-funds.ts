import { micros, type Micros } from '@orbyte/protocol'
import { type Context, isoFromMs } from '../context.ts'
import type { Reader, Transaction } from '../db/database.ts'
import { available, type Ledger } from '../ledger/ledger-service.ts'
import type { UserService } from '../users/user-service.ts'
import * as store from './audit-store.ts'

export type AuditFunds = ReturnType<typeof createAuditFunds>

const dayMs = 86_400_000

/**
 * The money of the market's own checks: an account like any renter's, filled when something is to be held, from the fees first
 * and from outside where they do not suffice. What was not used stays there for the next check.
 */
export function createAuditFunds(context: Context, { ledger, users }: { ledger: Ledger; users: UserService }) {
  const { auditMicrosPerDay } = context.config

  /** The account that pays, made when it is first needed. Null: an administrator has suspended it. */
  async function account(tx: Transaction): Promise<string | null> {
    const known = await store.readAccount(tx)
    if (known !== null) return (await users.isActive(tx, known)) ? known : null
    const userId = await users.createOwn(tx, 'The market’s own checks')
    await store.keepAccount(tx, userId)
    return userId
  }

  const spent = (reader: Reader) => store.spentSince(reader, isoFromMs(context.clock.now() - dayMs))

  return {
    account,
    spent,
    budget: auditMicrosPerDay,
    /** What may still be held for checks now. */
    left: async (reader: Reader): Promise<Micros> => micros(Math.max(0, auditMicrosPerDay - (await spent(reader)))),

    /** Sees to it that the account can hold `amount`. `key` names what for. */
    async fill(tx: Transaction, { userId, amount, key }: { userId: string; amount: Micros; key: string }) {
      const credit = available(userId)
      const missing = amount - (await ledger.balanceOf(tx, credit))
      if (missing <= 0) return
      const fees = Math.min(missing, await ledger.balanceOf(tx, 'fees'))
      const parts = [
        { debit: 'fees', amount: micros(fees), key: `audit:${key}:fees` },
        { debit: 'external', amount: micros(missing - fees), key: `audit:${key}:external` },
      ]
      for (const part of parts) if (part.amount > 0) await ledger.transfer(tx, { kind: 'audit', credit, ...part })
    },
  }
}
