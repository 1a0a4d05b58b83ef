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
  /** What agents have said on sockets that they have left, as long as it is not dealt with. */
  const leaving = new Map<string, Promise<void>>()

  function leave(agentId: string, connection: Connection) {
    const earlier = leaving.get(agentId)
    const left: Promise<void> = Promise.all([earlier, connection.finished()]).then(() => {
      if (leaving.get(agentId) === left) leaving.delete(agentId)
    })
    leaving.set(agentId, left)
  }

  return {
    get: (agentId: string) => open.get(agentId)?.connection,
    set: (agent: { id: string; owner_id: string }, connection: Connection) =>
      void open.set(agent.id, { connection, ownerId: agent.owner_id }),
    delete(agentId: string) {
      const entry = open.get(agentId)
      if (open.delete(agentId)) leave(agentId, entry!.connection)
    },
    /** What the agent has said on sockets before; undefined: all of it is dealt with. */
    left: (agentId: string): Promise<void> | undefined => leaving.get(agentId),
    all: () => [...open.values()].map(({ connection }) => connection),
    ofOwner: (ownerId: string) =>
      [...open].filter(([, entry]) => entry.ownerId === ownerId).map(([agentId]) => agentId),
    isConnected: (agentId: string) => open.has(agentId),
    send: (agentId: string, message: ServerMessage): boolean => open.get(agentId)?.connection.send(message) ?? false,
  }
}
