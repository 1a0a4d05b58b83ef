import { genesisHash, type LeafFields, leafText, type LedgerBatch, type Micros } from '@orbyte/protocol'
import type { Reader, Transaction } from '../db/database.ts'
import * as store from './ledger-store.ts'
import { hashLeaf } from './merkle.ts'

/** What the commit that is being written has done to the ledger so far. */
type OpenBatch = Pick<LedgerBatch, 'batch' | 'first_seq' | 'previous_hash'> & {
  /** Hashes of its transfers, in their order. */
  readonly leaves: string[]
  readonly balances: Map<string, Balance>
}
type Balance = { readonly account: string; readonly storedMicros: number; micros: number }
/** What the next batch follows. */
type Link = Pick<LedgerBatch, 'batch' | 'last_seq' | 'hash'>
const genesis: Link = { batch: 0, last_seq: 0, hash: genesisHash }
type Leaf = Pick<store.TransferRow, 'seq' | 'leaf_hash'>
type Accounts = Pick<store.TransferRow, 'debit_account' | 'credit_account'>

/** A batch that has ended, what the tree is made of, and whose balance is another than before. */
export type EndedBatch = Pick<OpenBatch, 'batch' | 'first_seq' | 'previous_hash' | 'leaves'> & {
  readonly changedAccounts: readonly string[]
}

/**
 * The batch that is open, in memory: a commit reads a balance once and writes it once, at its end, however many transfers
 * have changed it. Where a transaction fails, what it did here is undone too; with the commit all of it is gone, so that outside
 * of one the tables are what there is. Only the last batch is known from one commit to the next, since nobody else writes any.
 * `seal` stores a batch.
 *
 * What a transfer needs to know is loaded first; all else is done at once, since a promise costs more than the sum that it brings.
 */
export function createOpenLedger(seal: (tx: Transaction, ended: EndedBatch) => Promise<Link>) {
  let open: OpenBatch | null = null
  let last: Link | null = null

  async function begin(tx: Transaction): Promise<OpenBatch> {
    last ??= (await store.lastBatch(tx)) ?? genesis
    if (open) return open
    const { batch, last_seq, hash } = last
    open = {
      ...{ batch: batch + 1, first_seq: last_seq + 1, previous_hash: hash },
      ...{ leaves: [], balances: new Map() },
    }
    tx.onUndo(() => (open = null))
    tx.sealWith(() => end(tx))
    return open
  }

  /** Writes what has changed. */
  async function end(tx: Transaction) {
    const { balances, ...batch } = open!
    open = null
    if (batch.leaves.length === 0) return
    const changed = [...balances.values()].filter(({ storedMicros, micros }) => micros !== storedMicros)
    await store.writeBalances(tx, changed)
    const before = last
    tx.onUndo(() => (last = before))
    last = await seal(tx, { ...batch, changedAccounts: changed.map(({ account }) => account) })
  }

  async function loadBalance(tx: Transaction, { balances }: OpenBatch, account: string) {
    if (balances.has(account)) return
    const storedMicros = await store.balanceOf(tx, account)
    if (!balances.has(account)) balances.set(account, { account, storedMicros, micros: storedMicros })
  }

  return {
    async balanceOf(reader: Reader, account: string): Promise<Micros> {
      const known = open?.balances.get(account)
      return known ? (known.micros as Micros) : store.balanceOf(reader, account)
    },

    knows: ({ debit_account, credit_account }: Accounts): boolean =>
      open !== null && open.balances.has(debit_account) && open.balances.has(credit_account),

    /** What these accounts have. */
    async load(tx: Transaction, { debit_account, credit_account }: Accounts) {
      const batch = open ?? (await begin(tx))
      await loadBalance(tx, batch, debit_account)
      await loadBalance(tx, batch, credit_account)
    },

    /**
     * Moves the money, and gives the transfer its number in the ledger and its leaf, which covers the number. Its accounts are
     * `load`ed. False, and nothing has moved: the account to be debited has less than that.
     */
    make(tx: Transaction, transfer: Leaf & LeafFields & Accounts): boolean {
      const { first_seq, leaves, balances } = open!
      const { debit_account, credit_account, amount_micros } = transfer
      const from = balances.get(debit_account)!
      const to = balances.get(credit_account)!
      if (from.micros < amount_micros && debit_account !== 'external') return false
      transfer.seq = first_seq + leaves.length
      transfer.leaf_hash = hashLeaf(leafText(transfer))
      leaves.push(transfer.leaf_hash)
      from.micros -= amount_micros
      to.micros += amount_micros
      tx.onUndo(() => {
        leaves.pop()
        from.micros += amount_micros
        to.micros -= amount_micros
      })
      return true
    },
  }
}
