import {
  batchText,
  disputeReleaseKey,
  formatOrb,
  micros,
  type Micros,
  problem,
  type Transfer,
  type TransferKind,
} from '@orbyte/protocol'
import { type Context, nowIso } from '../context.ts'
import type { Reader, Transaction } from '../db/database.ts'
import type { LedgerKey } from './ledger-key.ts'
import * as store from './ledger-store.ts'
import { inclusionPath, merkleRoot, sha256Hex } from './merkle.ts'
import { createOpenLedger, type EndedBatch } from './open-batch.ts'

/**
 * Where money is. Every movement is a transfer: one debit and one credit of the same amount, made within the caller's
 * transaction, with a key that makes a repetition harmless. Accounts:
 *
 *   available:<user>   what a user can spend
 *   held:<user>        reserved for the user's tasks; a task's own transfers say what is left of its hold
 *   fees               what the platform has earned; its own checks are paid from it as long as there is something
 *   external           the world outside: the only account that may be negative
 *
 * Each commit's transfers are one batch: a Merkle root, chained to the batch before and signed (see protocol/receipts.ts).
 */
export type Ledger = ReturnType<typeof createLedger>

/** `key`: names the task, where there is one, and else none; so a key that is used once among those is used once. */
type NewTransfer = { kind: TransferKind; debit: string; credit: string; amount: Micros; key: string; taskId?: string }
type Remainder = { userId: string; rest: Micros }
type Made = { transfer: Transfer; hash: string }

export const available = (userId: string) => `available:${userId}`
export const held = (userId: string) => `held:${userId}`

type LedgerContext = Pick<Context, 'clock' | 'database'>

export function createLedger(context: LedgerContext, key: LedgerKey) {
  const open = createOpenLedger(sealBatch)
  const moveListeners = new Set<(account: string) => void>()

  /** Makes the transfer, unless it was made before: then that one is the answer and nothing moves. */
  async function transfer(tx: Transaction, wanted: NewTransfer): Promise<Made> {
    const existing = await store.transferByKey(tx, wanted.key, wanted.taskId ?? null)
    if (existing && !isSame(existing, wanted)) throw new RangeError(`another transfer has the key ${wanted.key}`)
    const made = existing ?? (await transferOnce(tx, wanted))
    return { transfer: store.toTransfer(made), hash: made.leaf_hash }
  }

  /** Makes a transfer that must not have been made before. Where it throws, the transaction has to fail. */
  async function transferOnce(tx: Transaction, wanted: NewTransfer): Promise<store.TransferRow> {
    if (wanted.amount <= 0) throw new RangeError(`a transfer of ${wanted.amount} micro-ORB`)
    if (!namesItsTask(wanted)) throw new RangeError(`the key ${wanted.key} has to name its task, and no other`)
    const row = {
      seq: 0,
      kind: wanted.kind,
      debit_account: wanted.debit,
      credit_account: wanted.credit,
      amount_micros: wanted.amount,
      idempotency_key: wanted.key,
      task_id: wanted.taskId ?? null,
      created_at: nowIso(context),
      leaf_hash: '',
    }
    if (!open.knows(row)) await open.load(tx, row)
    if (!open.make(tx, row)) throw await insufficientFunds(tx, wanted)
    if (!(await store.insertTransfer(tx, row))) throw new RangeError(`${wanted.key} was made before`)
    return row
  }

  async function insufficientFunds(tx: Transaction, { debit, amount }: NewTransfer) {
    const [needed, there] = [formatOrb(amount), formatOrb(await open.balanceOf(tx, debit))]
    return problem(
      'insufficient_funds',
      `That needs ${needed} ORB, and ${there} ORB is there. Deposit first (POST /api/wallet/deposit), or ask for less.`,
      { needed, balance: there },
    )
  }

  /** Closes the commit's batch: one hash and one signature a commit, however many transfers it holds. */
  async function sealBatch(tx: Transaction, { leaves, changedAccounts, ...batch }: EndedBatch) {
    const fields = {
      ...batch,
      last_seq: batch.first_seq + leaves.length - 1,
      merkle_root: merkleRoot(leaves),
      committed_at: nowIso(context),
    }
    const hash = sha256Hex(batchText(fields))
    const sealed = { ...fields, hash, signature: key.sign(hash) }
    await store.insertBatch(tx, sealed)
    tx.afterCommit(() => {
      for (const listen of moveListeners) for (const account of changedAccounts) listen(account)
    })
    return sealed
  }

  /** Whose a task's hold is, and what is left of it. */
  async function remainder(reader: Reader, taskId: string): Promise<Remainder | null> {
    const hold = await store.holdOf(reader, taskId)
    return hold ? { userId: hold.account.slice(held('').length), rest: micros(hold.rest_micros) } : null
  }

  /**
   * Gives what a task's hold has beyond `keep` (default: nothing) back to the renter, at most once for a `reason`. Returns the
   * account that `keep` is left in.
   */
  async function release(tx: Transaction, part: { taskId: string; keep?: Micros; reason: string }): Promise<string> {
    const { taskId, keep = micros(0), reason } = part
    const hold = await remainder(tx, taskId)
    if (!hold || keep < 0 || keep > hold.rest)
      throw new RangeError(`cannot keep ${keep} in the hold of ${taskId}: ${hold?.rest ?? 'none'} is left`)
    const [debit, credit] = [held(hold.userId), available(hold.userId)]
    const amount = micros(hold.rest - keep)
    const key = `release:${reason}:${taskId}`
    if (amount > 0) await transferOnce(tx, { kind: 'release', debit, credit, amount, key, taskId })
    return debit
  }

  return {
    transfer,
    /** `listen` hears of each account whose balance has changed, after the commit. The result unsubscribes. */
    onMove(listen: (account: string) => void): () => void {
      moveListeners.add(listen)
      return () => moveListeners.delete(listen)
    },
    balanceOf: open.balanceOf,
    depositedSince: store.depositedSince,
    remainder,

    /** Reserves `amount` for a task. Throws `insufficient_funds`. */
    async hold(tx: Transaction, { taskId, userId, amount }: { taskId: string; userId: string; amount: Micros }) {
      await transferOnce(tx, {
        kind: 'hold',
        debit: available(userId),
        credit: held(userId),
        amount,
        key: `hold:${taskId}`,
        taskId,
      })
    },

    release,

    /**
     * Ends a task's hold: pays `cost`, the fee to the platform and all else to the provider, and gives what it did not cost back
     * for `reason`. At most once a task: it leaves nothing. Returns the hash of the provider's transfer (of the fee's, if the fee
     * is all); null: there was nothing to pay.
     */
    async settle(
      tx: Transaction,
      part: { taskId: string; providerId: string; cost: Micros; fee: Micros; reason: string },
    ): Promise<string | null> {
      const { taskId, cost, fee, reason } = part
      if (fee < 0 || fee > cost) throw new RangeError(`a fee of ${fee} for ${taskId}, which costs ${cost}`)
      const debit = await release(tx, { taskId, keep: cost, reason })
      const parts = [
        { kind: 'fee', credit: 'fees', amount: fee, key: `fee:${taskId}` },
        { kind: 'settlement', credit: available(part.providerId), amount: micros(cost - fee), key: `settle:${taskId}` },
      ] as const
      let hash: string | null = null
      for (const { kind, credit, amount, key } of parts)
        if (amount > 0) hash = (await transferOnce(tx, { kind, debit, credit, amount, key, taskId })).leaf_hash
      return hash
    },

    async transfersOf(reader: Reader, query: { userId: string; before: number; limit: number }): Promise<Transfer[]> {
      return (await store.transfersOfUser(reader, query)).map(store.toTransfer)
    },

    /** What the provider and the platform still have of what a task cost: what was settled, less what was refunded. */
    async keptOf(reader: Reader, taskId: string): Promise<{ provider: Micros; fee: Micros }> {
      const kept = { provider: 0, fee: 0 }
      for (const { kind, debit_account, amount_micros } of await store.transfersOfTask(reader, taskId)) {
        if (kind === 'settlement') kept.provider += amount_micros
        if (kind === 'fee') kept.fee += amount_micros
        if (kind === 'refund') kept[debit_account === 'fees' ? 'fee' : 'provider'] -= amount_micros
      }
      return { provider: micros(kept.provider), fee: micros(kept.fee) }
    },

    /** The transfers that make up a task's payment (settlement, fee, and what went back to the renter), each with its proof. */
    async proofsOf(reader: Reader, taskId: string) {
      const rows = await store.transfersOfTask(reader, taskId)
      const parts = rows.filter(
        ({ kind, idempotency_key }) =>
          ['settlement', 'fee', 'refund'].includes(kind) || idempotency_key === disputeReleaseKey(taskId),
      )
      return Promise.all(parts.map((row) => proofOf(reader, row)))
    },

    async head(reader: Reader) {
      const head = (await store.lastBatch(reader)) ?? null
      const sum = await store.sumOfBalances(reader)
      return { head, public_key: key.publicKey, transfers: head?.last_seq ?? 0, sum: String(sum) }
    },

    batches: store.batchesBefore,
    publicKey: key.publicKey,
    /** Signs with the market's key what is not of the ledger, and says so in its own first words. */
    sign: key.sign,

    /** Refuses to go on with another key than the one that signed so far. Called once at start. */
    async checkKey(tx: Transaction) {
      const known = await store.ledgerPublicKey(tx)
      if (known === null) return store.keepLedgerPublicKey(tx, key.publicKey)
      if (known !== key.publicKey)
        throw new Error(
          'the ledger in this database was signed with another key than the one in the .ledger-key file beside it (or in LEDGER_KEY): put the market’s own key there',
        )
    },
  }
}

const namesItsTask = ({ key, taskId }: NewTransfer): boolean =>
  taskId === undefined ? !key.includes('task_') : key.includes(taskId)

function isSame(row: store.TransferRow, { kind, debit, credit, amount, taskId }: NewTransfer): boolean {
  return (
    row.kind === kind &&
    row.debit_account === debit &&
    row.credit_account === credit &&
    row.amount_micros === amount &&
    row.task_id === (taskId ?? null)
  )
}

async function proofOf(reader: Reader, row: store.TransferRow) {
  const batch = await store.batchOfSeq(reader, row.seq)
  if (!batch) throw new Error(`transfer ${row.seq} is in no batch`)
  const leaves = (await store.transfersBetween(reader, batch.first_seq, batch.last_seq)).map(
    ({ leaf_hash }) => leaf_hash,
  )
  const leaf_index = row.seq - batch.first_seq
  return {
    transfer: store.toTransfer(row),
    leaf_index,
    leaf_count: leaves.length,
    path: inclusionPath(leaves, leaf_index),
    batch,
  }
}
