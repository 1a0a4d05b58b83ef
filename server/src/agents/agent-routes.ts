import { api } from '@orbyte/protocol'
import { type Route, route } from '../http/route.ts'
import type { AgentService } from './agent-service.ts'

export function agentRoutes(agents: AgentService): Route[] {
  return [
    route(api.agents.list, (input, caller) => agents.list(caller, input)),
    route(api.agents.revoke, async ({ agent_id }, caller) => {
      await agents.revoke(caller, agent_id)
      return { ok: true as const }
    }),
  ]
}
