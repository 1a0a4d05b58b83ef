import { admin } from './admin.ts'
import { agents } from './agents.ts'
import type { Endpoint } from './endpoint.ts'
import { gpus } from './gpus.ts'
import { health } from './health.ts'
import { models } from './models.ts'
import { payments } from './payments.ts'
import { tasks } from './tasks.ts'
import { agentTokens, apiKeys, auth } from './users.ts'
import { ledger, wallet } from './wallet.ts'

/** The whole HTTP API, a group a feature. The server mounts it, the SDK calls it, the OpenAPI document lists it. */
export const api = { auth, apiKeys, agentTokens, gpus, models, tasks, payments, wallet, ledger, agents, admin, health }
export type Api = typeof api

export function listEndpoints(): { group: string; name: string; endpoint: Endpoint }[] {
  return Object.entries(api).flatMap(([group, endpoints]) =>
    Object.entries(endpoints).map(([name, endpoint]) => ({ group, name, endpoint: endpoint as unknown as Endpoint })),
  )
}
