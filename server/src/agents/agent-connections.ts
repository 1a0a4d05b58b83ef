import type { ServerMessage } from '@orbyte/protocol'

/** One open socket of an agent that has been let in. */
export type Connection = {
  send(message: ServerMessage): boolean
  /** Hangs up: what still arrives is not read. */
  close(): void
  /** Resolves once what has arrived is dealt with. */
  finished(): Promise<void>
}
export type AgentConnections = ReturnType<typeof createAgentConnections>

/** Which agent is on which socket. Apart from the service, because the scheduler sends through it. */
export function createAgentConnections() {
  const open = new Map<string, { connection: Connection; ownerId: string }>()
  return {
    get: (agentId: string) => open.get(agentId)?.connection,
    set: (agent: { id: string; owner_id: string }, connection: Connection) =>
      void open.set(agent.id, { connection, ownerId: agent.owner_id }),
    delete: (agentId: string) => void open.delete(agentId),
    all: () => [...open.values()].map(({ connection }) => connection),
    ofOwner: (ownerId: string) =>
      [...open].filter(([, entry]) => entry.ownerId === ownerId).map(([agentId]) => agentId),
    isConnected: (agentId: string) => open.has(agentId),
    send: (agentId: string, message: ServerMessage): boolean => open.get(agentId)?.connection.send(message) ?? false,
  }
}
