import { formatOrb, parseOrb } from './money.ts'
import type { Receipt } from './payments.ts'
import type { z } from 'zod'

/**
 * The ledger's arithmetic, as a verifier needs it: what bytes are hashed, how a leaf leads to its batch's root (Merkle tree of
 * RFC 6962, section 2.1), how batches are chained, and what is signed.
 */
export type LeafFields = {
  seq: number
  kind: string
  debit_account: string
  credit_account: string
  amount_micros: number
  idempotency_key: string
  task_id: string | null
  created_at: string
}
export type BatchFields = {
  batch: number
  first_seq: number
  last_seq: number
  merkle_root: string
  previous_hash: string
  committed_at: string
}

/** The bytes of a transfer that its leaf hash covers. */
export function leafText(t: LeafFields): string {
  const { seq, kind, debit_account, credit_account, amount_micros, idempotency_key, task_id, created_at } = t
  return JSON.stringify([seq, kind, debit_account, credit_account, amount_micros, idempotency_key, task_id, created_at])
}

/** The bytes of a batch that its hash covers; the hash before is among them: the chain. */
export function batchText(b: BatchFields): string {
  return JSON.stringify([b.batch, b.first_seq, b.last_seq, b.merkle_root, b.previous_hash, b.committed_at])
}

/** `previous_hash` of the first batch. */
export const genesisHash = '0'.repeat(64)

export type ReceiptCheck = { ok: true } | { ok: false; problem: string }

/**
 * Checks a receipt offline: each transfer's leaf leads to its batch's root, the batch's hash covers the root, the market's key
 * signed the hash, and the transfers add up to the payment. `publicKey`: the key that you trust, base64url; without it only
 * the receipt's own key is used.
 */
export async function verifyReceipt(receipt: z.input<typeof Receipt>, publicKey?: string): Promise<ReceiptCheck> {
  if (publicKey !== undefined && publicKey !== receipt.public_key)
    return { ok: false, problem: 'the receipt is signed by another market’s key' }
  let settled = 0
  let fee = 0
  for (const { transfer, leaf_index, leaf_count, path, batch } of receipt.proofs) {
    const leaf = await leafHash(leafText({ ...transfer, amount_micros: parseOrb(transfer.amount) }))
    const root = await rootFromPath({ leaf, index: leaf_index, count: leaf_count, path })
    if (root !== batch.merkle_root) return { ok: false, problem: `transfer ${transfer.seq} is not in batch ${batch.batch}` }
    if (batch.last_seq - batch.first_seq + 1 !== leaf_count || batch.first_seq + leaf_index !== transfer.seq)
      return { ok: false, problem: `transfer ${transfer.seq} is not where the batch says` }
    if (hex(await sha256(encode(batchText(batch)))) !== batch.hash)
      return { ok: false, problem: `the hash of batch ${batch.batch} does not cover its fields` }
    if (!(await signatureHolds(receipt.public_key, batch.hash, batch.signature)))
      return { ok: false, problem: `the signature of batch ${batch.batch} is not the market’s` }
    if (transfer.task_id !== receipt.payment.task_id)
      return { ok: false, problem: `transfer ${transfer.seq} belongs to another task` }
    if (transfer.debit_account !== `held:${receipt.payment.payer_id}`)
      return { ok: false, problem: `transfer ${transfer.seq} was not paid by the payer` }
    if (transfer.kind === 'settlement' && transfer.credit_account === `available:${receipt.payment.recipient_id}`) {
      settled += parseOrb(transfer.amount)
      if (receipt.payment.transaction_hash !== leaf)
        return { ok: false, problem: 'the payment’s transaction hash is not that of its transfer' }
    } else if (transfer.kind === 'fee' && transfer.credit_account === 'fees') fee += parseOrb(transfer.amount)
    else return { ok: false, problem: `transfer ${transfer.seq} is neither the provider’s part nor the fee` }
  }
  if (formatOrb(fee) !== receipt.payment.fee || formatOrb(settled + fee) !== receipt.payment.amount)
    return { ok: false, problem: 'the transfers do not add up to the payment’s amount and fee' }
  return { ok: true }
}

async function signatureHolds(publicKey: string, hash: string, signature: string): Promise<boolean> {
  const key = await crypto.subtle.importKey('raw', base64url(publicKey), 'Ed25519', false, ['verify'])
  return crypto.subtle.verify('Ed25519', key, base64url(signature), encode(hash))
}

/** Walks from a leaf to the root: RFC 9162, section 2.1.3.2 (the same tree as RFC 6962's). */
async function rootFromPath(at: { leaf: string; index: number; count: number; path: string[] }): Promise<string> {
  let hash = at.leaf
  let index = at.index
  let last = at.count - 1
  for (const sibling of at.path) {
    if (index % 2 === 1 || index === last) {
      hash = await nodeHash(sibling, hash)
      while (index % 2 === 0 && index !== 0) {
        index = Math.floor(index / 2)
        last = Math.floor(last / 2)
      }
    } else hash = await nodeHash(hash, sibling)
    index = Math.floor(index / 2)
    last = Math.floor(last / 2)
  }
  return last === 0 ? hash : ''
}

const leafHash = async (text: string) => hex(await sha256(Uint8Array.of(0, ...encode(text))))
const nodeHash = async (left: string, right: string) => hex(await sha256(Uint8Array.of(1, ...unhex(left), ...unhex(right))))
const sha256 = async (bytes: Uint8Array<ArrayBuffer>) => new Uint8Array(await crypto.subtle.digest('SHA-256', bytes))
const encode = (text: string): Uint8Array<ArrayBuffer> => new TextEncoder().encode(text)
const hex = (bytes: Uint8Array) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('')
const unhex = (text: string) => Uint8Array.from(text.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16))

function base64url(text: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(atob(text.replace(/-/g, '+').replace(/_/g, '/')), (char) => char.charCodeAt(0))
}
