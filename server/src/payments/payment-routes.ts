import { api } from '@orbyte/protocol'
import { type Route, route } from '../http/route.ts'
import type { DisputeService } from './dispute-service.ts'
import type { PaymentService } from './payment-service.ts'

export function paymentRoutes(payments: PaymentService, disputes: DisputeService): Route[] {
  return [
    route(api.payments.list, (input, caller) => payments.list(caller, 'either', input)),
    route(api.payments.sent, (input, caller) => payments.list(caller, 'payer', input)),
    route(api.payments.received, (input, caller) => payments.list(caller, 'recipient', input)),
    route(api.payments.earnings, (input, caller) => payments.earnings(caller, input)),
    route(api.payments.get, ({ payment_id }, caller) => payments.get(caller, payment_id)),
    route(api.payments.receipt, ({ payment_id }, caller) => payments.receipt(caller, payment_id)),
    route(api.payments.pay, ({ task_id }, caller) => payments.pay(caller, task_id)),
    route(api.payments.dispute, ({ payment_id, reason }, caller) =>
      disputes.open(caller, { paymentId: payment_id, reason }),
    ),
    route(api.payments.disputes, (input, { userId }) => disputes.list({ userId, status: null }, input)),
  ]
}
