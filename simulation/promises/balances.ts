import { genesisHash, Receipt, verifyReceipt } from '@orbyte/protocol'
import { verifyLedger } from '@orbyte/server/ledger/ledger-verify.ts'
import type { Caller } from '@orbyte/server/http/route.ts'
import { z } from 'zod'
import type { Evidence, Watch } from './evidence.ts'
import type { BatchFacts } from './promise-store.ts'

/** Receipts that are proven at the end: each costs a signature for each of its transfers. */
const receiptsMax = 5
/** What the first batch follows. */
const genesis: BatchFacts = { batch: 0, first_seq: 0, last_seq: 0, previous_hash: '', hash: genesisHash }

/**
 * Money is conserved: the sum of all accounts is zero, nothing is below zero but the world outside, balances are what the
 * transfers say, and of what is held for a task no more is taken than is there. What the ledger has once said it says for ever.
 */
export function watchBalances({ disk, store, current, broken }: Evidence, callerOf: (userId: string) => Caller): Watch {
  /** What the transfers so far add up to, kept apart from what the market keeps. */
  const balances = new Map<string, number>()
  let lastSeq = 0
  let head = genesis
  const isBroken = (message: string) => broken('money is conserved', message)

  function add(account: string, micros: number): number {
    const balance = (balances.get(account) ?? 0) + micros
    balances.set(account, balance)
    return balance
  }

  function goOnAdding() {
    for (const { seq, debit_account, credit_account, amount_micros, task_id } of store.transfersAfter(lastSeq)) {
      if (seq !== lastSeq + 1) isBroken(`transfer ${seq} comes after ${lastSeq}`)
      lastSeq = seq
      add(debit_account, -amount_micros)
      add(credit_account, amount_micros)
      if (credit_account.startsWith('held:')) add(`${credit_account} for ${task_id}`, amount_micros)
      if (debit_account.startsWith('held:') && add(`${debit_account} for ${task_id}`, -amount_micros) < 0)
        isBroken(`transfer ${seq} takes more out of ${debit_account} for ${task_id} than is there`)
    }
    for (const { id, balance_micros } of store.accounts())
      if (balance_micros !== (balances.get(id) ?? 0))
        isBroken(`${id} has ${balance_micros}, and its transfers add up to ${balances.get(id) ?? 0}`)
  }

  /** The chain goes on from where it was: nobody writes history. */
  function goOnChaining() {
    const [known, ...news] = head === genesis ? [genesis, ...store.batchesFrom(1)] : store.batchesFrom(head.batch)
    if (known?.hash !== head.hash)
      broken('what is in the ledger stays', `batch ${head.batch} was ${head.hash}, and is ${known?.hash}`)
    for (const next of news) {
      if (next.batch !== head.batch + 1 || next.first_seq !== head.last_seq + 1 || next.previous_hash !== head.hash)
        broken('the ledger is a chain', `batch ${next.batch} does not follow batch ${head.batch}`)
      head = next
    }
    if (head.last_seq !== lastSeq)
      broken('the ledger is a chain', `transfers from ${head.last_seq + 1} on are in no batch`)
  }

  async function proveReceipts() {
    const market = current()?.market
    for (const { id, payer_id } of market ? store.newestPaid(receiptsMax) : []) {
      const receipt = await market!.payments.receipt(callerOf(payer_id), id)
      const check = await verifyReceipt(z.encode(Receipt, receipt))
      if (!check.ok) broken('a payment can be proven', `the receipt of ${id}: ${check.problem}`)
    }
  }

  return {
    afterCommit() {
      const { sum, least } = store.balances()
      if (sum !== 0) isBroken(`the sum of all balances is ${sum}`)
      if (least < 0) isBroken(`a balance is ${least}`)
    },
    everyHour() {
      goOnAdding()
      goOnChaining()
    },
    async atTheEnd() {
      const { problems } = await verifyLedger(disk.reader)
      for (const problem of problems) broken('the ledger adds up', problem)
      await proveReceipts()
    },
  }
}
