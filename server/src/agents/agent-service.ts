import { createHash } from 'node:crypto'
import { type Agent, type AgentMessageOf, type End, problem, type ServerMessageOf } from '@orbyte/protocol'
import type { AuditService } from '../audits/audit-service.ts'
import type { Context } from '../context.ts'
import type { Transaction } from '../db/database.ts'
import type { AgentReport } from '../gpus/gpu-binding.ts'
import type { GpuService } from '../gpus/gpu-service.ts'
import { pageFrom, type PageInput, startOf } from '../http/page.ts'
import type { Caller } from '../http/route.ts'
import type { Scheduler } from '../scheduler/scheduler-service.ts'
import type { UserService } from '../users/user-service.ts'
import { createAcknowledged } from './agent-acknowledged.ts'
import type { AgentAdmission } from './agent-admission.ts'
import type { AgentConnections, Connection } from './agent-connections.ts'
import { createAssignedNews } from './assigned-news.ts'
import { createLiveness } from './agent-liveness.ts'
import * as store from './agent-store.ts'

export type AgentService = Awaited<ReturnType<typeof createAgentService>>
type Parts = {
  users: UserService
  admission: AgentAdmission
  gpus: GpuService
  scheduler: Scheduler
  audits: AuditService
  connections: AgentConnections
}
type Standing = { status: 'active' | 'suspended'; reason: string | null }
type Hello = AgentMessageOf<'hello'>

/** Who the agents are, whether they are alive, and what their messages mean. The dialogue is agent-conversation.ts's. */
export async function createAgentService(context: Context, parts: Parts) {
  const { users, admission, gpus, scheduler, audits, connections } = parts
  const { database, config } = context
  const { registry } = gpus
  const acked = createAcknowledged()
  const assigned = createAssignedNews(context, { registry, connections })

  const liveness = createLiveness(context, (agentId, state) => {
    registry.setLiveness(agentId, state, connections.isConnected(agentId))
    if (state !== 'dead') return
    const message = `The agent was silent for ${Math.round(config.timing.deadMs / 1_000)} s.`
    hangUp(agentId, { code: 'agent_lost', message, decided_by: 'platform' })
  })
  for (const agentId of await database.read(store.agentsWithOpenAttempts)) liveness.expect(agentId)

  /** Lets an agent in: its devices become GPUs, its attempts are compared with the market's. */
  async function welcome(agent: store.StoredAgent, hello: Hello, connection: Connection): Promise<void> {
    for (let left = leaveEarlier(agent.id); left; left = leaveEarlier(agent.id)) await left
    const bound = await database.transaction(async (tx) => {
      await store.putAgent(tx, agent)
      return gpus.bindDevices(tx, report(agent, hello.devices))
    })
    const attempts = await scheduler.reconcile(agent.id, hello.attempts)
    // Two may be let in at the same moment: there is no pause between the last look and the entry below.
    for (let left = leaveEarlier(agent.id); left; left = leaveEarlier(agent.id)) await left
    acked.begin(agent.id, hello.instance)
    assigned.note(bound.gpus)
    connection.send({
      type: 'welcome',
      agent_id: agent.id,
      heartbeat_ms: config.timing.heartbeatMs,
      gpus: bound.gpus,
      refused_devices: bound.refused,
      attempts,
      acked_seq: acked.seqOf(agent.id),
    })
    connections.set(agent, connection)
    liveness.heard(agent.id)
    registry.setLiveness(agent.id, 'alive', true)
    // Whoever was shut out while they were let in: from here on `expel` finds the connection.
    const refusal = await database.read((reader) => admission.standing(reader, agent))
    if (refusal) return expel(agent.id, refusal)
    scheduler.wake()
  }

  /**
   * The newest connection of an agent wins. What was said on those before is dealt with first, so that nothing counts twice, and
   * nothing is taken as kept that is still on its way to the disk: that is what the result waits for; undefined: it is done.
   */
  function leaveEarlier(agentId: string): Promise<void> | undefined {
    connections.get(agentId)?.close()
    connections.delete(agentId)
    return connections.left(agentId)
  }

  async function devices(agent: store.AgentHere, message: AgentMessageOf<'devices'>) {
    const bound = await database.transaction((tx) => gpus.bindDevices(tx, report(agent, message.devices)))
    registry.setLiveness(agent.id, 'alive', true)
    assigned.note(bound.gpus)
    connections.send(agent.id, { type: 'gpus', gpus: bound.gpus })
    scheduler.wake()
  }

  async function heartbeat(agent: store.AgentHere, message: AgentMessageOf<'heartbeat'>) {
    const own = new Map(registry.ofAgent(agent.id).map((gpu) => [gpu.deviceUuid, gpu.id]))
    for (const { uuid, telemetry } of message.devices) {
      const gpuId = own.get(uuid)
      if (gpuId !== undefined) registry.setTelemetry(gpuId, telemetry)
    }
    const attempts = await scheduler.heartbeat(agent.id, message.attempts)
    connections.send(agent.id, { type: 'heartbeat.ack', id: message.id, acked_seq: acked.seqOf(agent.id), attempts })
  }

  const unsubscribe = registry.onChange(assigned.tell)
  users.onStatusChanged((userId, status) => {
    if (status === 'active') return
    const message = `The account of this machine’s owner is ${status}.`
    for (const agentId of connections.ofOwner(userId))
      expel(agentId, { code: `user_${status}`, message, retry: status === 'suspended' })
  })

  /** Ends a connection for good or for now; what ran there is tried elsewhere. */
  function expel(
    agentId: string,
    { code, message, retry }: Pick<ServerMessageOf<'refused'>, 'code' | 'message' | 'retry'>,
  ) {
    connections.send(agentId, { type: 'refused', code, message, retry })
    hangUp(agentId, { code: 'agent_shut_out', message: `The agent was shut out: ${message}`, decided_by: 'platform' })
  }

  function hangUp(agentId: string, end: End) {
    const connection = connections.get(agentId)
    connections.delete(agentId)
    connection?.close()
    registry.setLiveness(agentId, liveness.of(agentId), false)
    scheduler.agentGone(agentId, end)
  }

  async function setStanding(tx: Transaction, agentId: string, { status, reason }: Standing) {
    await store.setAgentStatus(tx, agentId, { status, reason })
    const message = reason ?? 'The agent is suspended.'
    if (status === 'suspended') tx.afterCommit(() => expel(agentId, { code: 'agent_suspended', message, retry: false }))
  }
  audits.onFaultTooMuch(async (tx, { agentId, reason }) => {
    const agent = await store.agentById(tx, agentId)
    if (agent?.status === 'active') await setStanding(tx, agentId, { status: 'suspended', reason })
  })

  function view(agent: store.StoredAgent): Agent {
    return {
      ...agent,
      fingerprint: createHash('sha256').update(agent.public_key).digest('hex').slice(0, 16),
      liveness: liveness.of(agent.id),
      connected: connections.isConnected(agent.id),
      gpus: registry.ofAgent(agent.id).length,
    }
  }

  return {
    admission,
    welcome,
    devices,
    heartbeat,
    heard: liveness.heard,
    ackedSeq: acked.seqOf,
    acknowledge: acked.note,

    disconnected(agentId: string, connection: Connection) {
      if (connections.get(agentId) !== connection) return
      connections.delete(agentId)
      registry.setLiveness(agentId, liveness.of(agentId), false)
    },

    list(caller: Caller, page: PageInput) {
      return database.read(async (reader) => {
        const rows = await store.agentsOfOwner(reader, {
          ownerId: caller.userId,
          before: startOf(page),
          limit: page.limit + 1,
        })
        return pageFrom(rows.map(view), page.limit)
      })
    },

    async revoke(caller: Caller, agentId: string) {
      await database.transaction(async (tx) => {
        const agent = await store.agentById(tx, agentId)
        if (!agent || agent.owner_id !== caller.userId)
          throw problem('not_found', `There is no agent ${agentId} of yours. List yours with GET /api/agents/.`)
        await store.setAgentStatus(tx, agentId, { status: 'revoked', reason: null })
        const message = 'The key of this machine was revoked.'
        tx.afterCommit(() => expel(agentId, { code: 'agent_revoked', message, retry: false }))
      })
    },

    /** For administrators, within their transaction. */
    async setStatus(tx: Transaction, agentId: string, change: Standing): Promise<Agent> {
      const agent = await store.agentById(tx, agentId)
      if (!agent || agent.status === 'revoked')
        throw problem('not_found', `There is no agent ${agentId}, or its key was revoked.`)
      await setStanding(tx, agentId, change)
      if (change.status === 'active') await audits.forgive(tx, agentId)
      const seen = view({ ...agent, status: change.status, suspended_reason: change.reason })
      return { ...seen, connected: seen.connected && change.status === 'active' }
    },

    stop() {
      unsubscribe()
      liveness.stop()
      for (const connection of connections.all()) connection.close()
    },
  }
}

function report({ id, owner_id, hostname, version, region }: store.AgentHere, devices: Hello['devices']): AgentReport {
  return { agentId: id, ownerId: owner_id, hostname, version, region, devices }
}
