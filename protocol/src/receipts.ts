import { formatOrb, parseOrb } from './money.ts'
import type { Payment, Receipt, TransferProof } from './payments.ts'
import type { Transfer } from './wallet.ts'
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
  const { payment, proofs } = receipt
  if (publicKey !== undefined && publicKey !== receipt.public_key)
    return no('the receipt is signed by another market’s key')
  const sums = { settlement: 0, fee: 0, undisputed: 0, refund: 0 }
  const leaves: string[] = []
  const seen = new Set<number>()
  for (const proof of proofs) {
    const { transfer } = proof
    const leaf = await leafHash(leafText({ ...transfer, amount_micros: parseOrb(transfer.amount) }))
    const found =
      (await unproven(proof, leaf, receipt.public_key)) ?? (seen.has(transfer.seq) ? 'is there twice' : null)
    if (found !== null) return no(`transfer ${transfer.seq} ${found}`)
    const part = partOf(transfer, payment)
    if (part === null) return no(`transfer ${transfer.seq} is not a part of this payment`)
    sums[part] += parseOrb(transfer.amount)
    seen.add(transfer.seq)
    if (part === 'settlement' || part === 'fee') leaves.push(leaf)
  }
  if (!leaves.includes(payment.transaction_hash ?? ''))
    return no('the payment’s transaction hash is not that of its transfer')
  const amount = sums.settlement + sums.fee + sums.undisputed
  if (formatOrb(sums.fee) !== payment.fee || formatOrb(amount) !== payment.amount)
    return no('the transfers do not add up to the payment’s amount and fee')
  if (formatOrb(sums.undisputed + sums.refund) !== payment.refunded)
    return no('the transfers do not add up to what the payment says was refunded')
  return { ok: true }
}

const no = (problem: string): ReceiptCheck => ({ ok: false, problem })

/** The key of the transfer that gives a renter back what a dispute was decided to be worth. */
export const disputeReleaseKey = (taskId: string) => `release:dispute:${taskId}`

/** What a transfer is to a payment: the provider's part, the fee, or what the renter got back before or after it was settled. */
function partOf(
  t: z.input<typeof Transfer>,
  { task_id, payer_id, recipient_id }: z.input<typeof Payment>,
): 'settlement' | 'fee' | 'undisputed' | 'refund' | null {
  const [held, payer, recipient] = [`held:${payer_id}`, `available:${payer_id}`, `available:${recipient_id}`]
  const moves = (debit: string, credit: string) => t.debit_account === debit && t.credit_account === credit
  if (t.task_id !== task_id) return null
  if (t.kind === 'settlement' && moves(held, recipient)) return 'settlement'
  if (t.kind === 'fee' && moves(held, 'fees')) return 'fee'
  if (t.kind === 'release' && moves(held, payer) && t.idempotency_key === disputeReleaseKey(task_id))
    return 'undisputed'
  return t.kind === 'refund' && (moves(recipient, payer) || moves('fees', payer)) ? 'refund' : null
}

/** Why a proof does not hold; null: it does. */
async function unproven(proof: z.input<typeof TransferProof>, leaf: string, publicKey: string): Promise<string | null> {
  const { transfer, leaf_index, leaf_count, path, batch } = proof
  const root = await rootFromPath({ leaf, index: leaf_index, count: leaf_count, path })
  if (root !== batch.merkle_root) return `is not in batch ${batch.batch}`
  if (batch.last_seq - batch.first_seq + 1 !== leaf_count || batch.first_seq + leaf_index !== transfer.seq)
    return 'is not where the batch says'
  if (hex(await sha256(encode(batchText(batch)))) !== batch.hash)
    return `is in batch ${batch.batch}, whose hash does not cover its fields`
  if (!(await signatureHolds(publicKey, batch.hash, batch.signature)))
    return `is in batch ${batch.batch}, whose signature is not the market’s`
  return null
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
const nodeHash = async (left: string, right: string) =>
  hex(await sha256(Uint8Array.of(1, ...unhex(left), ...unhex(right))))
const sha256 = async (bytes: Uint8Array<ArrayBuffer>) => new Uint8Array(await crypto.subtle.digest('SHA-256', bytes))
const encode = (text: string): Uint8Array<ArrayBuffer> => new TextEncoder().encode(text)
const hex = (bytes: Uint8Array) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('')
const unhex = (text: string) => Uint8Array.from(text.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16))

function base64url(text: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(atob(text.replace(/-/g, '+').replace(/_/g, '/')), (char) => char.charCodeAt(0))
}
