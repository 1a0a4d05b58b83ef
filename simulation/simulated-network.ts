import type { Network, SocketListener } from '@orbyte/agent/outside.ts'
import type { AgentSocket, Conversation } from '@orbyte/server/agents/agent-conversation.ts'
import type { SeededRandom } from './seeded-random.ts'
import type { SimulatedClock } from './simulated-clock.ts'
import type { SimulatedProcess } from './simulated-process.ts'

/** The way between a machine and the market, as it is now. Whoever makes trouble changes it. */
export type Weather = {
  /** Packets wait, and arrive in order once it is over; new connections time out. */
  isCut: boolean
  latencyMsMax: number
}

export type SimulatedNetwork = {
  /** The market listens, until its process dies. */
  listen(process: SimulatedProcess, accept: (socket: AgentSocket) => Conversation): void
  marketDied(): void
  /** What an agent process on a machine sees of the network. */
  networkOf(machine: string, process: SimulatedProcess): Network
  /** The process is gone. `isHeard`: its machine still says goodbye for it; else the market hears nothing. */
  agentDied(process: SimulatedProcess, isHeard: boolean): void
  weatherOf(machine: string): Weather
  heal(machine: string): void
  /** Breaks a machine's connections. Both ends hear of it sooner or later; `isHalfOpen`: neither does. False: it has none. */
  breakConnection(machine: string, isHalfOpen: boolean): boolean
}

type Item = { readonly text: string } | { readonly closed: string }
/** One direction: what is sent arrives in order. */
type Pipe = { lastDueMs: number; readonly held: Item[]; heldBytes: number; deliver(item: Item): void }

const connectMsMax = 10_000
const goodbyeMsMax = 2_000
const calmLatencyMsMax = 60

export function simulatedNetwork(clock: SimulatedClock, random: SeededRandom): SimulatedNetwork {
  const weathers = new Map<string, Weather>()
  const connections = new Set<Connection>()
  let market: { process: SimulatedProcess; accept: (socket: AgentSocket) => Conversation } | null = null

  function weatherOf(machine: string): Weather {
    let weather = weathers.get(machine)
    if (!weather) weathers.set(machine, (weather = { isCut: false, latencyMsMax: calmLatencyMsMax }))
    return weather
  }
  const latencyMs = (machine: string) => random.integer(1, weatherOf(machine).latencyMsMax)

  function connect(machine: string, agent: SimulatedProcess, listener: SocketListener) {
    const connection = createConnection({
      clock,
      machine,
      agent,
      listener,
      latencyMs,
      isCut: () => weatherOf(machine).isCut,
    })
    connections.add(connection)
    connection.onOver = () => connections.delete(connection)
    const fail = (reason: string, delayMs: number) => clock.after(delayMs, () => connection.refuse(reason))
    if (weatherOf(machine).isCut) fail('timed out', connectMsMax)
    else
      clock.after(latencyMs(machine), () => {
        if (!market || market.process.isFrozen())
          fail(market ? 'timed out' : 'connection refused', market ? connectMsMax : 1)
        else connection.open(market.process, market.accept)
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
    weatherOf,
    heal(machine) {
      Object.assign(weatherOf(machine), { isCut: false, latencyMsMax: calmLatencyMsMax })
      for (const connection of connections) if (connection.machine === machine) connection.healed()
    },
    breakConnection(machine, isHalfOpen) {
      const meant = [...connections].filter((connection) => connection.machine === machine)
      for (const connection of meant) connection.break(isHalfOpen ? null : random.integer(1, 20_000))
      return meant.length > 0
    },
  }
}

type ConnectionParts = {
  readonly clock: SimulatedClock
  readonly machine: string
  readonly agent: SimulatedProcess
  readonly listener: SocketListener
  latencyMs(machine: string): number
  isCut(): boolean
}
type Connection = ReturnType<typeof createConnection>

/** One TCP connection with a WebSocket on it, and what can become of both. */
function createConnection(parts: ConnectionParts) {
  const { clock, machine, agent, listener } = parts
  let market: SimulatedProcess | null = null
  let conversation: Conversation | null = null
  /** What each end believes. */
  const state = { agent: 'open' as State, market: 'open' as State }
  let isLost = false
  let isPaused = false
  const unread: string[] = []

  const toMarket = newPipe((item) => {
    if (!market || state.market === 'closed') return
    market.run(() => {
      if (state.market === 'closed') return
      if ('closed' in item) return endMarket()
      if (isPaused) unread.push(item.text)
      else conversation!.received(item.text)
    })
  })
  const toAgent = newPipe((item) => {
    agent.run(() => {
      if (state.agent === 'closed' || state.agent === 'terminated') return
      if ('closed' in item) return endAgent(item.closed)
      listener.message(item.text)
    })
  })

  function newPipe(deliver: (item: Item) => void): Pipe {
    return { lastDueMs: 0, held: [], heldBytes: 0, deliver }
  }
  function put(pipe: Pipe, item: Item) {
    if (isLost) return
    if (parts.isCut() || pipe.held.length > 0) return hold(pipe, item)
    pipe.lastDueMs = Math.max(pipe.lastDueMs, clock.nowMs() + parts.latencyMs(machine))
    clock.after(pipe.lastDueMs - clock.nowMs(), () => {
      if (isLost) return
      if (parts.isCut() || pipe.held.length > 0) hold(pipe, item)
      else pipe.deliver(item)
    })
  }
  function hold(pipe: Pipe, item: Item) {
    pipe.held.push(item)
    if ('text' in item) pipe.heldBytes += item.text.length
  }

  function endAgent(reason: string) {
    if (state.agent === 'closed') return
    state.agent = 'closed'
    if (agent.isAlive()) listener.closed(reason)
    put(toMarket, { closed: reason })
    checkOver()
  }
  function endMarket() {
    if (state.market === 'closed') return
    state.market = 'closed'
    if (market?.isAlive()) conversation?.closed()
    put(toAgent, { closed: 'the market has closed it' })
    checkOver()
  }
  function checkOver() {
    if (state.agent === 'closed' && (state.market === 'closed' || market === null)) connection.onOver()
  }

  function resume() {
    isPaused = false
    while (!isPaused && unread.length > 0) conversation!.received(unread.shift()!)
  }

  const agentSocket = {
    send: (text: string) => agent.isAlive() && state.agent === 'open' && put(toMarket, { text }),
    close(reason: string) {
      if (state.agent !== 'open' || !agent.isAlive()) return
      state.agent = 'closing'
      put(toMarket, { closed: reason })
      agent.after(goodbyeMsMax, () => endAgent(reason))
    },
    terminate() {
      if (state.agent === 'closed' || !agent.isAlive()) return
      state.agent = 'terminated'
      agent.after(0, () => endAgent('it hung up'))
    },
  }
  const marketSocket: AgentSocket = {
    isOpen: () => state.market === 'open' && market!.isAlive(),
    bufferedBytes: () => toAgent.heldBytes,
    send: (text) => void (market!.isAlive() && state.market === 'open' && put(toAgent, { text })),
    close() {
      if (state.market !== 'open' || !market!.isAlive()) return
      state.market = 'closing'
      put(toAgent, { closed: 'the market has closed it' })
      market!.after(30_000, endMarket)
    },
    terminate() {
      if (market!.isAlive()) market!.after(0, endMarket)
    },
    pause: () => (isPaused = true),
    resume: () => market!.after(0, resume),
  }

  const connection = {
    agent,
    machine,
    agentSocket,
    onOver: () => {},
    open(process: SimulatedProcess, accept: (socket: AgentSocket) => Conversation) {
      if (state.agent !== 'open' || isLost) return void (state.market = 'closed')
      market = process
      conversation = accept(marketSocket)
    },
    refuse(reason: string) {
      state.market = 'closed'
      agent.run(() => endAgent(reason))
    },
    healed() {
      for (const pipe of [toMarket, toAgent]) {
        pipe.heldBytes = 0
        for (const item of pipe.held.splice(0)) put(pipe, item)
      }
    },
    peerDied(who: 'agent' | 'market', isHeard: boolean) {
      if (who === 'market' && !market) return
      const wasOpen = state[who] !== 'closed'
      state[who] = 'closed'
      if (wasOpen && isHeard) put(who === 'market' ? toAgent : toMarket, { closed: 'the connection broke' })
      else isLost = true
      checkOver()
    },
    /** `heardInMs`: null: neither end hears of it. */
    break(heardInMs: number | null) {
      isLost = true
      if (heardInMs === null) return
      clock.after(heardInMs, () => agent.run(() => endAgent('the connection broke')))
      if (market) clock.after(Math.ceil(heardInMs / 3), () => market!.run(endMarket))
    },
  }
  return connection
}

type State = 'open' | 'closing' | 'terminated' | 'closed'
