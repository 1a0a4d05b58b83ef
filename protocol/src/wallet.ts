import { z } from 'zod'
import { endpoint, pageInput, pageOf, Timestamp } from './endpoint.ts'
import { idOf } from './ids.ts'
import { NonNegativeAmount, PositiveAmount } from './amounts.ts'

export const TransferKind = z
  .enum(['deposit', 'withdrawal', 'hold', 'release', 'settlement', 'fee', 'refund', 'audit'])
  .meta({ id: 'TransferKind', description: 'audit: the market pays for a check of its own.' })
export type TransferKind = z.infer<typeof TransferKind>

/** One debit and one credit: the only way in which money moves. */
export const Transfer = z
  .object({
    seq: z.int().positive().describe('Its number in the ledger: 1, 2, 3, …'),
    kind: TransferKind,
    debit_account: z
      .string()
      .describe('Where the amount leaves: "available:user_…", "held:user_…", "fees" or "external".'),
    credit_account: z.string().describe('Where it arrives.'),
    amount: PositiveAmount,
    idempotency_key: z.string().describe('What makes a repetition of this transfer harmless.'),
    task_id: idOf('task').nullable(),
    created_at: Timestamp,
  })
  .meta({ id: 'Transfer' })
export type Transfer = z.output<typeof Transfer>

export const Wallet = z
  .object({
    balance: NonNegativeAmount.describe('What you can spend, in ORB.'),
    held: NonNegativeAmount.describe('Reserved for tasks that have not ended and payments under review.'),
    currency: z.literal('ORB'),
    mode: z.enum(['mock']).describe('"mock": ORB is play money.'),
    faucet_remaining: NonNegativeAmount.describe('What POST /api/wallet/deposit still gives today.'),
  })
  .meta({ id: 'Wallet' })

export const LedgerBatch = z
  .object({
    batch: z.int().positive(),
    first_seq: z.int().positive(),
    last_seq: z.int().positive(),
    merkle_root: z.string().describe('Root of the Merkle tree (RFC 6962) over the batch’s transfers, hex SHA-256.'),
    previous_hash: z.string(),
    hash: z.string().describe('SHA-256 over the batch’s fields and the hash before: the chain.'),
    signature: z.string().describe('The market’s Ed25519 signature of `hash`, base64url.'),
    committed_at: Timestamp,
  })
  .meta({ id: 'LedgerBatch' })
export type LedgerBatch = z.output<typeof LedgerBatch>

export const LedgerHead = z
  .object({
    head: LedgerBatch.nullable(),
    public_key: z.string().describe('The market’s Ed25519 public key, base64url.'),
    transfers: z.int().nonnegative(),
    sum: z.string().describe('The sum of all balances: always "0".'),
  })
  .meta({ id: 'LedgerHead' })

const amountInput = z.strictObject({ amount: PositiveAmount.describe('In ORB.') })

export const wallet = {
  get: endpoint('GET /api/wallet/', { summary: 'Your balance', access: 'user', output: Wallet }),
  transfers: endpoint('GET /api/wallet/transfers', {
    summary: 'Every transfer from or to your accounts, newest first',
    access: 'user',
    input: z.strictObject({ ...pageInput }),
    output: pageOf(Transfer),
  }),
  deposit: endpoint('POST /api/wallet/deposit', {
    summary: 'Get mock money from the faucet',
    access: 'user',
    idempotent: true,
    input: amountInput,
    output: Wallet,
    errors: ['faucet_limit', 'not_mock_mode'],
  }),
  withdraw: endpoint('POST /api/wallet/withdraw', {
    summary: 'Take money out of the market',
    access: 'user',
    idempotent: true,
    input: amountInput,
    output: Wallet,
    errors: ['insufficient_funds', 'not_mock_mode'],
  }),
}

export const ledger = {
  head: endpoint('GET /api/ledger/head', {
    summary: 'The newest link of the ledger’s hash chain',
    access: 'public',
    output: LedgerHead,
  }),
  batches: endpoint('GET /api/ledger/batches', {
    summary: 'The links of the hash chain, newest first',
    access: 'public',
    input: z.strictObject({ ...pageInput }),
    output: pageOf(LedgerBatch),
  }),
}
