import { createPublicKey, verify } from 'node:crypto'
import { type AgentMessageOf, agentProtocolVersion, type ServerMessageOf } from '@orbyte/protocol'
import { type Context, newId, nowIso } from '../context.ts'
import type { Reader } from '../db/database.ts'
import type { CredentialService } from '../users/credential-service.ts'
import type { UserService } from '../users/user-service.ts'
import { createFlapLimit } from './agent-flapping.ts'
import { agentByKey, countAgentsOf, type StoredAgent } from './agent-store.ts'
import { createTurns } from './agent-turns.ts'

type Hello = AgentMessageOf<'hello'>
type Refusal = ServerMessageOf<'refused'>
export type AgentAdmission = ReturnType<typeof createAgentAdmission>

/**
 * So many agents are let in at a time, and the others wait in line. Each takes a few commits: with fewer these would hold little,
 * with more all that is begun stays in memory for longer, and letting ten thousand in takes longer, too.
 */
const letInAtOnceMax = 32

/** Who may come in: a key that signs, that is enrolled or has a token to be, and that nobody has shut out. */
export function createAgentAdmission(
  context: Context,
  { users, credentials }: { users: UserService; credentials: CredentialService },
) {
  const { database, config } = context
  const flapLimit = createFlapLimit(context)

  /** The agent that says hello, or why it may not come in. */
  async function identify(hello: Hello, nonce: string): Promise<StoredAgent | Refusal> {
    if (hello.protocol_version !== agentProtocolVersion)
      return refusal(
        'protocol_version',
        `This market speaks version ${agentProtocolVersion} of the agent protocol, the agent ${hello.protocol_version}. Update the older one.`,
      )
    if (!signatureHolds(hello, nonce)) return refusal('bad_signature', 'The signature does not belong to the key.')
    const known = await database.read((reader) => agentByKey(reader, hello.public_key))
    const { hostname, os, agent_version: version, region } = hello
    const kept = { hostname, os, version, region, last_seen_at: nowIso(context) }
    const agent = known ? { ...known, ...kept } : await enrol(hello, kept)
    if ('type' in agent) return agent
    const waitMs = flapLimit(agent.id)
    if (waitMs > 0)
      return refusal(
        'too_many_connections',
        `This agent has connected ${config.limits.connectionsPerAgentMax} times in ${Math.round(config.timing.flapMs / 1_000)} s. It is let in again in ${Math.ceil(waitMs / 1_000)} s.`,
        true,
      )
    return (await database.read((reader) => standing(reader, agent))) ?? agent
  }

  type Kept = Pick<StoredAgent, 'hostname' | 'os' | 'version' | 'region' | 'last_seen_at'>

  async function enrol({ agent_token: token, public_key }: Hello, kept: Kept): Promise<StoredAgent | Refusal> {
    const ownerId = token === null ? undefined : (await credentials.verifyAgentToken(token))?.userId
    if (ownerId === undefined && token !== null)
      return refusal('token_unknown', 'This token is unknown, expired or revoked. Make another at the market.')
    if (ownerId === undefined)
      return refusal('not_enrolled', 'This machine is not enrolled. Make a token at the market and start with --token.')
    const most = config.limits.agentsPerOwnerMax
    if ((await database.read((reader) => countAgentsOf(reader, ownerId))) >= most)
      return refusal(
        'too_many_agents',
        `An account may have ${most} machines. Revoke one that you do not use any more.`,
      )
    const id = newId(context, 'agent')
    const created_at = nowIso(context)
    return { id, owner_id: ownerId, public_key, status: 'active', suspended_reason: null, created_at, ...kept }
  }

  /** Why this agent may not be here now, or null if it may: asked again once it is in, since much may happen meanwhile. */
  async function standing(reader: Reader, { public_key, owner_id }: StoredAgent): Promise<Refusal | null> {
    const known = await agentByKey(reader, public_key)
    if (known?.status === 'revoked')
      return refusal('agent_revoked', 'The key of this machine was revoked. Remove its data folder to enrol it anew.')
    if (known?.status === 'suspended')
      return refusal('agent_suspended', known.suspended_reason ?? 'The agent is suspended.')
    const owner = await users.find(reader, owner_id)
    if (owner?.status === 'suspended')
      return refusal('user_suspended', 'The account of this machine’s owner is suspended.', true)
    if (owner?.status !== 'active') return refusal('user_closed', 'The account of this machine’s owner is closed.')
    return null
  }

  return { inTurn: createTurns(letInAtOnceMax), identify, standing }
}

function refusal(code: string, message: string, retry = false): Refusal {
  return { type: 'refused', code, message, retry }
}

function signatureHolds({ public_key, signature }: Hello, nonce: string): boolean {
  try {
    const key = createPublicKey({ key: { kty: 'OKP', crv: 'Ed25519', x: public_key }, format: 'jwk' })
    return verify(null, Buffer.from(`orbyte-agent:${nonce}`), key, Buffer.from(signature, 'base64url'))
  } catch {
    return false
  }
}
