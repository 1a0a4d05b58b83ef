import { api } from '@orbyte/protocol'
import { rawRoute, type Route, route } from '../http/route.ts'
import type { AdminService } from './admin-service.ts'
import type { BackupService } from './backup-service.ts'

/** Who reads nothing for so long has lost interest in a backup, and makes room for the next one. */
const stalledMsMax = 120_000

export function adminRoutes(admin: AdminService, backups: BackupService): Route[] {
  return [
    route(api.admin.createAdmin, (input, caller) => admin.createAdmin(caller, input)),
    route(api.admin.users, (input) => admin.users(input)),
    route(api.admin.actions, (input) => admin.actions(input)),
    route(api.admin.suspendUser, ({ user_id, reason }, caller) =>
      admin.suspendUser(caller, { userId: user_id, reason }),
    ),
    route(api.admin.restoreUser, ({ user_id }, caller) => admin.restoreUser(caller, user_id)),
    route(api.admin.resetPassword, ({ user_id }, caller) => admin.resetPassword(caller, user_id)),
    route(api.admin.shares, async () => ({ items: admin.shares() })),
    route(api.admin.setWeight, ({ user_id, weight }, caller) => admin.setWeight(caller, { userId: user_id, weight })),
    route(api.admin.suspendAgent, ({ agent_id, reason }, caller) =>
      admin.suspendAgent(caller, { agentId: agent_id, reason }),
    ),
    route(api.admin.restoreAgent, ({ agent_id }, caller) => admin.restoreAgent(caller, agent_id)),
    route(api.admin.refund, ({ payment_id, amount, reason }, caller) =>
      admin.refund(caller, { paymentId: payment_id, amount, reason }),
    ),
    route(api.admin.disputes, ({ status, ...page }) => admin.disputes({ userId: null, status: status ?? null }, page)),
    route(api.admin.decideDispute, ({ dispute_id, decision, refund_amount, note }, caller) =>
      admin.decideDispute(caller, { disputeId: dispute_id, decision, refundAmount: refund_amount, note }),
    ),
    rawRoute(api.admin.backup, async (_input, caller, reply) => {
      const archive = await backups.start(caller)
      reply.raw.setTimeout(stalledMsMax, () => void reply.raw.destroy())
      void reply.type('application/x-tar').header('content-disposition', 'attachment; filename="orbyte-backup.tar"')
      return archive
    }),
    route(api.admin.pauseMarket, ({ reason }, caller) => admin.pauseMarket(caller, reason)),
    route(api.admin.resumeMarket, (_input, caller) => admin.resumeMarket(caller)),
  ]
}
