import type { Network, SocketListener } from '@orbyte/agent/outside.ts'
import type { AgentSocket, Conversation } from '@orbyte/server/agents/agent-conversation.ts'
import type { SeededRandom } from './seeded-random.ts'
import type { SimulatedClock } from './simulated-clock.ts'
import { createConnection, type Connection, type Direction } from './simulated-connection.ts'
import type { SimulatedProcess } from './simulated-process.ts'

/** What may happen to a single message where the way is a bad one. TCP lets none of it through but the delay. */
export const mishaps = ['dropped', 'delayed', 'duplicated', 'reordered'] as const
export type Mishap = (typeof mishaps)[number]

/** The way between a machine and the market, as it is now. Whoever makes trouble changes it. */
export type Weather = {
  /** In these directions packets wait, and arrive in order once it is over; new connections time out. */
  cut: readonly Direction[]
  latencyMsMax: number
  /** How likely each is for a message. */
  mishaps: Readonly<Record<Mishap, number>>
}

export type SimulatedNetwork = {
  /** The market listens, until its process dies. */
  listen(process: SimulatedProcess, accept: (socket: AgentSocket) => Conversation): void
  marketDied(): void
  /** What an agent process on a machine sees of the network. */
  networkOf(machine: string, process: SimulatedProcess): Network
  /** The process is gone. `isHeard`: its machine still says goodbye for it; else the market hears nothing. */
  agentDied(process: SimulatedProcess, isHeard: boolean): void
  /** Changes the weather of a machine until it is healed. */
  worsen(machine: string, change: Partial<Weather>): void
  heal(machine: string): void
  /** The connections of a machine that are open somewhere. */
  connectionsOf(machine: string): Connection[]
  /** Called for each message that something happens to. */
  onMishap(listen: (mishap: Mishap, machine: string) => void): void
}

const connectMsMax = 10_000
const goodWeather: Weather = {
  cut: [],
  latencyMsMax: 60,
  mishaps: { dropped: 0, delayed: 0, duplicated: 0, reordered: 0 },
}

export function simulatedNetwork(clock: SimulatedClock, random: SeededRandom): SimulatedNetwork {
  const weathers = new Map<string, Weather>()
  const connections = new Set<Connection>()
  let market: { process: SimulatedProcess; accept: (socket: AgentSocket) => Conversation } | null = null
  let struck: (mishap: Mishap, machine: string) => void = () => {}

  const weatherOf = (machine: string) => weathers.get(machine) ?? goodWeather
  const latencyMs = (machine: string) => random.integer(1, weatherOf(machine).latencyMsMax)
  const connectionsOf = (machine: string) => [...connections].filter((connection) => connection.machine === machine)

  function mishapOf(machine: string): Mishap | null {
    const weather = weatherOf(machine)
    if (weather.mishaps === goodWeather.mishaps) return null
    const mishap = mishaps.find((one) => random.chance(weather.mishaps[one])) ?? null
    if (mishap) struck(mishap, machine)
    return mishap
  }

  function connect(machine: string, agent: SimulatedProcess, listener: SocketListener) {
    const connection = createConnection({
      ...{ clock, random, machine, agent, listener },
      latencyMs: () => latencyMs(machine),
      isCut: (direction) => weatherOf(machine).cut.includes(direction),
      mishap: () => mishapOf(machine),
      onOver: () => connections.delete(connection),
    })
    connections.add(connection)
    const refuse = (reason: string, delayMs: number) => clock.after(delayMs, () => connection.refuse(reason))
    if (weatherOf(machine).cut.length > 0) refuse('timed out', connectMsMax)
    else
      clock.after(latencyMs(machine), () => {
        if (!market) return refuse('connection refused', 1)
        const { process, accept } = market
        // A market that is frozen finds it when it thaws: until then the connection waits in its kernel.
        process.run(() => connection.open(process, accept))
      })
    return connection.agentSocket
  }

  return {
    listen: (process, accept) => (market = { process, accept }),
    marketDied() {
      market = null
      for (const connection of [...connections]) connection.peerDied('market', random.chance(0.8))
    },
    networkOf: (machine, process) => ({ connect: (_url, listener) => connect(machine, process, listener) }),
    agentDied(process, isHeard) {
      for (const connection of [...connections]) if (connection.agent === process) connection.peerDied('agent', isHeard)
    },
    worsen: (machine, change) => void weathers.set(machine, { ...weatherOf(machine), ...change }),
    heal(machine) {
      weathers.delete(machine)
      for (const connection of connectionsOf(machine)) connection.goOn()
    },
    connectionsOf,
    onMishap: (listen) => (struck = listen),
  }
}
