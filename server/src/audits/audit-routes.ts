import { api } from '@orbyte/protocol'
import { type Route, route } from '../http/route.ts'
import type { AuditService } from './audit-service.ts'

export function auditRoutes(audits: AuditService): Route[] {
  return [
    route(api.admin.audits, (input) => audits.list(input)),
    route(api.gpus.audits, (input, caller) => audits.ofGpu(caller, input)),
  ]
}
