import { z } from 'zod'
import { Agent } from './agents.ts'
import { Audit, AuditStatus } from './audits.ts'
import { endpoint, pageInput, pageOf, Timestamp } from './endpoint.ts'
import { idOf } from './ids.ts'
import { NonNegativeAmount, PositiveAmount } from './amounts.ts'
import { Dispute, Payment } from './payments.ts'
import { Password, User } from './users.ts'

const Reason = z.string().trim().min(3).max(2_000).describe('Why: it is kept with the decision.')
const userId = z.strictObject({ user_id: idOf('user') })
const agentId = z.strictObject({ agent_id: idOf('agent') })
const Market = z.object({ paused: z.boolean(), reason: z.string().nullable() }).meta({ id: 'MarketState' })

const Share = z
  .object({
    user_id: idOf('user'),
    weight: z.number().describe('Of two renters who wait, one of weight 2 gets twice as much. 1 unless it was set.'),
    gpu_hours: z.number().nonnegative().describe('Used lately: half of what is past is forgotten every hour.'),
    gpus: z.int().nonnegative().describe('Held now.'),
    waiting: z.int().nonnegative().describe('Tasks that wait for a GPU.'),
  })
  .meta({ id: 'Share' })

const AdminAction = z
  .object({
    seq: z.int(),
    admin_id: z.string().describe('The administrator; "operator" for whoever holds the market’s secret key.'),
    action: z.string().describe('Like "user.suspend" or "market.pause".'),
    subject: z.string().describe('The id of what it was about, or "market".'),
    reason: z.string().nullable(),
    created_at: Timestamp,
  })
  .meta({ id: 'AdminAction' })

export const admin = {
  createAdmin: endpoint('POST /api/admin/admins', {
    summary: 'Create an administrator',
    access: 'admin',
    status: 201,
    input: z.strictObject({ email: z.email().max(254), password: Password }),
    output: User,
    errors: ['email_taken'],
  }),
  users: endpoint('GET /api/admin/users', {
    summary: 'List users, newest first',
    access: 'admin',
    input: z.strictObject({ ...pageInput, email: z.string().max(254).optional().describe('Part of the address.') }),
    output: pageOf(User),
  }),
  actions: endpoint('GET /api/admin/actions', {
    summary: 'List what administrators have decided, newest first: who, what and why',
    access: 'admin',
    input: z.strictObject(pageInput),
    output: pageOf(AdminAction),
  }),
  suspendUser: endpoint('POST /api/admin/users/{user_id}/suspend', {
    summary: 'Suspend a user: no login, no new tasks, no new attempts on their GPUs',
    access: 'admin',
    input: userId.extend({ reason: Reason }),
    output: User,
    errors: ['not_found'],
  }),
  restoreUser: endpoint('POST /api/admin/users/{user_id}/restore', {
    summary: 'Lift a user’s suspension',
    access: 'admin',
    input: userId,
    output: User,
    errors: ['not_found'],
  }),
  resetPassword: endpoint('POST /api/admin/users/{user_id}/reset-password', {
    summary: 'Set a new random password, shown once; all sessions end',
    access: 'admin',
    input: userId,
    output: z.object({ password: z.string() }),
    errors: ['not_found'],
  }),
  shares: endpoint('GET /api/admin/shares', {
    summary: 'Who has had how much of the GPUs lately, the most first',
    description: 'When a GPU is free, those who have had least for their weight go first.',
    access: 'admin',
    output: z.object({ items: z.array(Share) }),
  }),
  setWeight: endpoint('PUT /api/admin/users/{user_id}/weight', {
    summary: 'Give a renter a larger or smaller share of the GPUs',
    access: 'admin',
    input: userId.extend({ weight: z.number().min(0.01).max(100) }),
    output: Share,
    errors: ['not_found'],
  }),
  suspendAgent: endpoint('POST /api/admin/agents/{agent_id}/suspend', {
    summary: 'Suspend an agent: it is disconnected and its GPUs are offline',
    access: 'admin',
    input: agentId.extend({ reason: Reason }),
    output: Agent,
    errors: ['not_found'],
  }),
  restoreAgent: endpoint('POST /api/admin/agents/{agent_id}/restore', {
    summary: 'Lift an agent’s suspension',
    access: 'admin',
    input: agentId,
    output: Agent,
    errors: ['not_found'],
  }),
  refund: endpoint('POST /api/admin/payments/{payment_id}/refund', {
    summary: 'Give a renter money back from a settled payment',
    access: 'admin',
    idempotent: true,
    input: z.strictObject({
      payment_id: idOf('payment'),
      amount: PositiveAmount.optional().describe('Default: all that was not refunded yet.'),
      reason: Reason,
    }),
    output: Payment,
    errors: ['not_found', 'payment_not_due', 'insufficient_funds'],
  }),
  disputes: endpoint('GET /api/admin/disputes', {
    summary: 'List disputes, newest first',
    access: 'admin',
    input: z.strictObject({ ...pageInput, status: Dispute.shape.status.optional() }),
    output: pageOf(Dispute),
  }),
  decideDispute: endpoint('POST /api/admin/disputes/{dispute_id}/decide', {
    summary: 'Decide a dispute',
    access: 'admin',
    idempotent: true,
    input: z.strictObject({
      dispute_id: idOf('dispute'),
      decision: z.enum(['release', 'refund', 'split']).describe('Pay the provider, give it back, or divide it.'),
      refund_amount: PositiveAmount.optional().describe('For "split": what the renter gets back.'),
      note: Reason,
    }),
    output: Dispute,
    errors: ['not_found', 'dispute_decided', 'invalid_request'],
  }),
  audits: endpoint('GET /api/admin/audits', {
    summary: 'List the market’s own checks of GPUs, newest first',
    access: 'admin',
    input: z.strictObject({
      ...pageInput,
      status: AuditStatus.optional(),
      gpu_id: idOf('gpu').optional().describe('Those in which this GPU was asked.'),
    }),
    output: pageOf(Audit).extend({
      spent: NonNegativeAmount.describe('On checks of the last 24 hours, with what is held for those that are open.'),
      budget_per_day: NonNegativeAmount,
    }),
    errors: ['invalid_cursor'],
  }),
  backup: endpoint('POST /api/admin/backup', {
    summary: 'Take a consistent copy of the market while it runs',
    description:
      'An archive (tar) with the database, the files of tasks, and last `backup.json`, which the market signs. The keys of the market are not in it. It holds what was acknowledged before `created_at`. One at a time.',
    access: 'admin',
    reply: 'byte-stream',
    output: z.unknown(),
    errors: ['backup_refused', 'database_full'],
  }),
  pauseMarket: endpoint('POST /api/admin/market/pause', {
    summary: 'Accept no new tasks and start no new attempts; what runs goes on',
    access: 'admin',
    input: z.strictObject({ reason: Reason }),
    output: Market,
  }),
  resumeMarket: endpoint('POST /api/admin/market/resume', {
    summary: 'Go on after a pause',
    access: 'admin',
    output: Market,
  }),
}
