import { formatOrb, micros, type Micros, problem, Transfer, Wallet } from '@orbyte/protocol'
import { type Context, isoFromMs, newId } from '../context.ts'
import { z } from 'zod'
import type { Reader, Transaction } from '../db/database.ts'
import { transactionOnce } from '../http/idempotency-store.ts'
import { decodeCursor, encodeCursor, type Page } from '../http/page.ts'
import type { Caller } from '../http/route.ts'
import type { AccountService } from '../users/account-service.ts'
import { available, held, type Ledger } from './ledger-service.ts'

export type WalletService = ReturnType<typeof createWalletService>

const dayMs = 86_400_000
/** Newest transfers in an account's export; the rest is in GET /api/wallet/transfers. */
const exportedMax = 10_000
const exportedWallet = Wallet.extend({ transfers: z.array(Transfer) })

/** A user's view of their accounts. In mock mode money comes from the faucet and leaves to nowhere. */
export function createWalletService(context: Context, ledger: Ledger, accounts: AccountService) {
  async function faucetRemaining(reader: Reader, userId: string): Promise<Micros> {
    const given = await ledger.depositedSince(reader, userId, isoFromMs(context.clock.now() - dayMs))
    return micros(Math.max(0, context.config.faucetMicrosPerDay - given))
  }

  async function show(reader: Reader, userId: string) {
    return {
      balance: await ledger.balanceOf(reader, available(userId)),
      held: await ledger.balanceOf(reader, held(userId)),
      currency: 'ORB' as const,
      mode: 'mock' as const,
      faucet_remaining: await faucetRemaining(reader, userId),
    }
  }

  async function deposit(tx: Transaction, userId: string, amount: Micros) {
    const remaining = await faucetRemaining(tx, userId)
    if (amount > remaining)
      throw problem(
        'faucet_limit',
        `The faucet gives this account ${formatOrb(remaining)} ORB more in these 24 hours. Ask for less, or come back later.`,
        { remaining: formatOrb(remaining) },
      )
    const key = `deposit:${newId(context, 'payment')}`
    await ledger.transfer(tx, { kind: 'deposit', debit: 'external', credit: available(userId), amount, key })
    return show(tx, userId)
  }

  async function withdraw(tx: Transaction, userId: string, amount: Micros) {
    const key = `withdrawal:${newId(context, 'payment')}`
    await ledger.transfer(tx, { kind: 'withdrawal', debit: available(userId), credit: 'external', amount, key })
    return show(tx, userId)
  }

  accounts.onClose(async (tx, userId) => {
    const { balance, held: reserved } = await show(tx, userId)
    if (balance + reserved === 0) return
    const left = `${formatOrb(balance)} ORB is in your wallet and ${formatOrb(reserved)} ORB is held`
    throw problem(
      'account_has_obligations',
      `${left}. Cancel or finish your tasks, wait until payments under review or dispute are settled, then withdraw what is left: POST /api/wallet/withdraw.`,
    )
  })
  accounts.contribute('wallet', async (reader, userId) => {
    const transfers = await ledger.transfersOf(reader, { userId, before: Number.MAX_SAFE_INTEGER, limit: exportedMax })
    return z.encode(exportedWallet, { ...(await show(reader, userId)), transfers })
  })

  return {
    get: (caller: Pick<Caller, 'userId'>) => context.database.read((reader) => show(reader, caller.userId)),
    /** `listen` hears when the user's balance has changed. The result unsubscribes. */
    onChange: (userId: string, listen: () => void) =>
      ledger.onMove((account) => {
        if (account === available(userId) || account === held(userId)) listen()
      }),
    deposit: (caller: Caller, amount: Micros) =>
      transactionOnce(context, caller, (tx) => deposit(tx, caller.userId, amount)),
    withdraw: (caller: Caller, amount: Micros) =>
      transactionOnce(context, caller, (tx) => withdraw(tx, caller.userId, amount)),

    async transfers(caller: Caller, page: { limit: number; cursor?: string }): Promise<Page<Transfer>> {
      const before = page.cursor === undefined ? Number.MAX_SAFE_INTEGER : seqOf(page.cursor)
      const query = { userId: caller.userId, before, limit: page.limit + 1 }
      return bySeq(await context.database.read((reader) => ledger.transfersOf(reader, query)), page.limit)
    },

    head: () => context.database.read((reader) => ledger.head(reader)),

    async batches(page: { limit: number; cursor?: string }) {
      const before = page.cursor === undefined ? Number.MAX_SAFE_INTEGER : seqOf(page.cursor)
      const rows = await context.database.read((reader) => ledger.batches(reader, before, page.limit + 1))
      const items = rows.slice(0, page.limit)
      return { items, next_cursor: rows.length > page.limit ? encodeCursor(String(items.at(-1)!.batch)) : null }
    },
  }
}

function bySeq(rows: Transfer[], limit: number): Page<Transfer> {
  const items = rows.slice(0, limit)
  return { items, next_cursor: rows.length > limit ? encodeCursor(String(items.at(-1)!.seq)) : null }
}

function seqOf(cursor: string): number {
  const seq = Number(decodeCursor(cursor))
  if (!Number.isSafeInteger(seq)) throw problem('invalid_cursor', 'Use the next_cursor of the page before, unchanged.')
  return seq
}
