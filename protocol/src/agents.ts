import { z } from 'zod'
import { Done, endpoint, pageInput, pageOf, Timestamp } from './endpoint.ts'
import { Liveness } from './gpus.ts'
import { idOf } from './ids.ts'

/** The daemon on a provider's machine. */
export const Agent = z
  .object({
    id: idOf('agent'),
    owner_id: idOf('user'),
    hostname: z.string(),
    os: z.string(),
    version: z.string(),
    fingerprint: z.string().describe('SHA-256 of its public key, the first 16 hex digits.'),
    liveness: Liveness,
    connected: z.boolean(),
    status: z.enum(['active', 'suspended', 'revoked']),
    suspended_reason: z.string().nullable().describe('Why it is suspended.'),
    gpus: z.int().nonnegative(),
    created_at: Timestamp,
    last_seen_at: Timestamp.nullable(),
  })
  .meta({ id: 'Agent' })
export type Agent = z.output<typeof Agent>

export const agents = {
  list: endpoint('GET /api/agents/', {
    summary: 'List the agents on your machines',
    access: 'user',
    input: z.strictObject({ ...pageInput }),
    output: pageOf(Agent),
  }),
  revoke: endpoint('DELETE /api/agents/{agent_id}', {
    summary: 'Revoke a machine’s key: its agent is disconnected for good',
    access: 'user',
    input: z.strictObject({ agent_id: idOf('agent') }),
    output: Done,
    errors: ['not_found'],
  }),
}
