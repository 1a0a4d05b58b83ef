import { createPublicKey, verify } from 'node:crypto'
import { batchText, genesisHash, leafText } from '@orbyte/protocol'
import type { Reader } from '../db/database.ts'
import { openSqliteReadOnly } from '../db/sqlite-database.ts'
import {
  allAccounts,
  type BatchRow,
  batchesFrom,
  keysUsedTwice,
  ledgerPublicKey,
  sumOfBalances,
  type TransferRow,
  transfersBetween,
} from './ledger-store.ts'
import { hashLeaf, merkleRoot, sha256Hex } from './merkle.ts'

export type LedgerReport = {
  batches: number
  transfers: number
  accounts: number
  problems: string[]
  head: string | null
  public_key: string | null
}

/** Checks a database file that no server has open. */
export async function verifyLedgerFile(path: string): Promise<LedgerReport> {
  const { reader, close } = openSqliteReadOnly(path)
  try {
    return await verifyLedger(reader)
  } finally {
    close()
  }
}

/**
 * Checks the whole ledger from its transfers alone: every leaf, root, link and signature; that balances are what the transfers
 * say, none below zero but `external`; that their sum is zero; that what is held is held for tasks, and that no more was ever
 * taken out of a task's hold than was in it; that no key is used twice.
 */
export async function verifyLedger(reader: Reader): Promise<LedgerReport> {
  const problems: string[] = []
  const balances = new Map<string, number>()
  const holds = new Map<string, number>()
  const publicKey = await ledgerPublicKey(reader)
  const report: LedgerReport = { batches: 0, transfers: 0, accounts: 0, problems, head: null, public_key: publicKey }
  let previous: BatchRow | null = null
  for (let page = await batchesFrom(reader, 1); page.length > 0; page = await batchesFrom(reader, previous!.batch + 1))
    for (const batch of page) {
      const transfers = await transfersBetween(reader, batch.first_seq, batch.last_seq)
      problems.push(...batchProblems({ batch, previous, transfers, publicKey }))
      for (const transfer of transfers) {
        const { debit_account, credit_account, amount_micros } = transfer
        balances.set(debit_account, (balances.get(debit_account) ?? 0) - amount_micros)
        balances.set(credit_account, (balances.get(credit_account) ?? 0) + amount_micros)
        problems.push(...holdProblems(holds, transfer))
      }
      report.batches++
      report.transfers += transfers.length
      previous = batch
    }
  const beyond = await transfersBetween(reader, (previous?.last_seq ?? 0) + 1, Number.MAX_SAFE_INTEGER)
  if (beyond.length > 0) problems.push(`${beyond.length} transfers are in no batch, from ${beyond[0]!.seq} on`)
  for (const key of await keysUsedTwice(reader)) problems.push(`several transfers have the key ${key}`)
  problems.push(...(await balanceProblems(reader, balances)))
  return { ...report, accounts: balances.size, head: previous?.hash ?? null }
}

type Link = { batch: BatchRow; previous: BatchRow | null; transfers: TransferRow[]; publicKey: string | null }

function batchProblems({ batch, previous, transfers, publicKey }: Link): string[] {
  const problems: string[] = []
  const say = (sentence: string) => problems.push(`batch ${batch.batch}: ${sentence}`)
  if (batch.batch !== (previous?.batch ?? 0) + 1 || batch.first_seq !== (previous?.last_seq ?? 0) + 1)
    say('it does not follow the batch before')
  if (batch.previous_hash !== (previous?.hash ?? genesisHash)) say('the chain is broken before it')
  if (transfers.length !== batch.last_seq - batch.first_seq + 1) say('transfers are missing')
  for (const transfer of transfers)
    if (hashLeaf(leafText(transfer)) !== transfer.leaf_hash) say(`transfer ${transfer.seq} was changed`)
  if (transfers.length > 0 && merkleRoot(transfers.map((row) => hashLeaf(leafText(row)))) !== batch.merkle_root)
    say('its root does not cover its transfers')
  if (sha256Hex(batchText(batch)) !== batch.hash) say('its hash does not cover its fields')
  if (publicKey === null || !signatureHolds(publicKey, batch)) say('its signature is not the market’s')
  return problems
}

/** Moves what a transfer puts into a task's hold or takes out of it. `holds`: what is left of those that are not empty. */
function holdProblems(holds: Map<string, number>, transfer: TransferRow): string[] {
  const { seq, kind, debit_account, credit_account, amount_micros, task_id } = transfer
  const problems: string[] = []
  const [from, to] = [`${debit_account} for ${task_id}`, `${credit_account} for ${task_id}`]
  if (to.startsWith('held:')) {
    if (kind !== 'hold' || task_id === null) problems.push(`transfer ${seq}: ${amount_micros} is held for no task`)
    holds.set(to, (holds.get(to) ?? 0) + amount_micros)
  }
  if (from.startsWith('held:')) {
    const there = holds.get(from) ?? 0
    if (amount_micros > there)
      problems.push(`transfer ${seq}: ${amount_micros} is taken out of ${from}, where ${there} is`)
    if (amount_micros === there) holds.delete(from)
    else holds.set(from, there - amount_micros)
  }
  return problems
}

async function balanceProblems(reader: Reader, expected: Map<string, number>): Promise<string[]> {
  const problems: string[] = []
  const accounts = await allAccounts(reader)
  const actual = new Map(accounts.map(({ id, balance_micros }) => [id, balance_micros]))
  for (const id of new Set([...expected.keys(), ...actual.keys()]))
    if ((expected.get(id) ?? 0) !== (actual.get(id) ?? 0))
      problems.push(`${id}: the balance is ${actual.get(id) ?? 0}, its transfers add up to ${expected.get(id) ?? 0}`)
  for (const [id, balance] of actual)
    if (balance < 0 && id !== 'external') problems.push(`${id}: the balance is below zero`)
  const sum = [...actual.values()].reduce((total, balance) => total + balance, 0)
  if (sum !== 0) problems.push(`the sum of all balances is ${sum}, not 0`)
  const kept = await sumOfBalances(reader)
  if (kept !== sum) problems.push(`the sum of all balances is ${sum}, and ${kept} is kept as that`)
  return problems
}

function signatureHolds(publicKey: string, batch: BatchRow): boolean {
  const key = createPublicKey({ key: { kty: 'OKP', crv: 'Ed25519', x: publicKey }, format: 'jwk' })
  return verify(null, Buffer.from(batch.hash), key, Buffer.from(batch.signature, 'base64url'))
}
