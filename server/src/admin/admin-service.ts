import { encodeBase32, type Dispute, type Micros, type Payment, problem, type User } from '@orbyte/protocol'
import type { AgentService } from '../agents/agent-service.ts'
import { type Context, nowIso } from '../context.ts'
import type { Transaction } from '../db/database.ts'
import { transactionOnce } from '../http/idempotency-store.ts'
import { decodeCursor, encodeCursor, type PageInput } from '../http/page.ts'
import type { Caller } from '../http/route.ts'
import type { DisputeService } from '../payments/dispute-service.ts'
import type { PaymentService } from '../payments/payment-service.ts'
import type { MarketPause } from '../scheduler/market-store.ts'
import type { Scheduler } from '../scheduler/scheduler-service.ts'
import type { TaskService } from '../tasks/task-service.ts'
import type { Passwords } from '../users/password.ts'
import type { UserService } from '../users/user-service.ts'
import { readActions, recordAction } from './admin-store.ts'

type Parts = {
  users: UserService
  passwords: Passwords
  payments: PaymentService
  disputes: DisputeService
  tasks: TaskService
  scheduler: Scheduler
  agents: AgentService
}
export type AdminService = ReturnType<typeof createAdminService>

/** What administrators decide. Each decision is kept with who made it and why, in the same transaction. */
export function createAdminService(context: Context, parts: Parts) {
  const { users, passwords, payments, disputes, tasks, scheduler, agents } = parts
  const { database } = context

  function record(tx: Transaction, caller: Caller, what: { action: string; subject: string; reason?: string | null }) {
    const adminId = caller.userId || 'operator'
    return recordAction(tx, { ...what, adminId, at: nowIso(context), reason: what.reason ?? null })
  }

  async function setPause(caller: Caller, pause: MarketPause): Promise<MarketPause> {
    await database.transaction(async (tx) => {
      const action = pause.paused ? 'market.pause' : 'market.resume'
      await record(tx, caller, { action, subject: 'market', reason: pause.reason })
      await scheduler.setPause(tx, pause)
    })
    return pause
  }

  return {
    users: users.list,
    disputes: disputes.list,

    async actions({ limit, cursor }: PageInput) {
      const before = cursor === undefined ? Number.MAX_SAFE_INTEGER : Number(decodeCursor(cursor))
      if (!Number.isSafeInteger(before))
        throw problem('invalid_cursor', 'Use the next_cursor of the page before, unchanged.')
      const rows = await database.read((reader) => readActions(reader, { before, limit: limit + 1 }))
      const items = rows.slice(0, limit)
      return { items, next_cursor: rows.length > limit ? encodeCursor(String(items.at(-1)!.seq)) : null }
    },

    async createAdmin(caller: Caller, { email, password }: { email: string; password: string }): Promise<User> {
      const passwordHash = await passwords.hash(password)
      return database.transaction(async (tx) => {
        const user = await users.create(tx, { email, name: null, role: 'admin', passwordHash })
        await record(tx, caller, { action: 'admin.create', subject: user.id })
        return user
      })
    },

    /** Their tasks end, their agents go; nobody is charged for what the suspension cuts off on their GPUs. */
    suspendUser(caller: Caller, { userId, reason }: { userId: string; reason: string }): Promise<User> {
      return database.transaction(async (tx) => {
        if (userId === caller.userId) throw problem('forbidden', 'You cannot suspend yourself.')
        const user = await users.setStatus(tx, userId, { status: 'suspended', reason })
        const message = `The renter's account is suspended: ${reason}`
        await tasks.cancelAllOf(tx, userId, { code: 'user_suspended', message, decided_by: 'admin' })
        await record(tx, caller, { action: 'user.suspend', subject: userId, reason })
        return user
      })
    },

    restoreUser(caller: Caller, userId: string): Promise<User> {
      return database.transaction(async (tx) => {
        const user = await users.setStatus(tx, userId, { status: 'active', reason: null })
        await record(tx, caller, { action: 'user.restore', subject: userId })
        return user
      })
    },

    async resetPassword(caller: Caller, userId: string): Promise<{ password: string }> {
      const password = encodeBase32(context.random.bytes(15))
      const passwordHash = await passwords.hash(password)
      await database.transaction(async (tx) => {
        await users.setPassword(tx, userId, { passwordHash })
        await record(tx, caller, { action: 'user.reset-password', subject: userId })
      })
      return { password }
    },

    shares: scheduler.shares.view,

    async setWeight(caller: Caller, { userId, weight }: { userId: string; weight: number }) {
      await database.transaction(async (tx) => {
        if (!(await users.find(tx, userId))) throw problem('not_found', `There is no user ${userId}.`)
        await scheduler.shares.setWeight(tx, userId, weight)
        await record(tx, caller, { action: 'user.weigh', subject: userId, reason: String(weight) })
      })
      return scheduler.shares.viewOf(userId)
    },

    suspendAgent(caller: Caller, { agentId, reason }: { agentId: string; reason: string }) {
      return database.transaction(async (tx) => {
        const agent = await agents.setStatus(tx, agentId, { status: 'suspended', reason })
        await record(tx, caller, { action: 'agent.suspend', subject: agentId, reason })
        return agent
      })
    },

    restoreAgent(caller: Caller, agentId: string) {
      return database.transaction(async (tx) => {
        const agent = await agents.setStatus(tx, agentId, { status: 'active', reason: null })
        await record(tx, caller, { action: 'agent.restore', subject: agentId })
        return agent
      })
    },

    refund(
      caller: Caller,
      { paymentId, amount, reason }: { paymentId: string; amount?: Micros; reason: string },
    ): Promise<Payment> {
      return transactionOnce(context, caller, async (tx) => {
        const payment = await payments.refund(tx, paymentId, amount)
        await record(tx, caller, { action: 'payment.refund', subject: paymentId, reason })
        return payment
      })
    },

    decideDispute(
      caller: Caller,
      input: { disputeId: string; decision: 'release' | 'refund' | 'split'; refundAmount?: Micros; note: string },
    ): Promise<Dispute> {
      const { disputeId, decision, refundAmount, note } = input
      return transactionOnce(context, caller, async (tx) => {
        const decidedBy = caller.userId || 'operator'
        const dispute = await disputes.decide(tx, disputeId, { decision, refundAmount, note, decidedBy })
        await record(tx, caller, { action: `dispute.${decision}`, subject: disputeId, reason: note })
        return dispute
      })
    },

    pauseMarket: (caller: Caller, reason: string) => setPause(caller, { paused: true, reason }),
    resumeMarket: (caller: Caller) => setPause(caller, { paused: false, reason: null }),
  }
}
