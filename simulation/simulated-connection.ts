import type { SocketListener } from '@orbyte/agent/outside.ts'
import type { AgentSocket, Conversation } from '@orbyte/server/agents/agent-conversation.ts'
import type { SeededRandom } from './seeded-random.ts'
import type { SimulatedClock } from './simulated-clock.ts'
import type { Mishap } from './simulated-network.ts'
import type { SimulatedProcess } from './simulated-process.ts'
import { createPipe, type Pipe } from './simulated-pipe.ts'

export type Direction = 'to market' | 'to agent'
export type Connection = ReturnType<typeof createConnection>

/** What an end of the connection believes. */
type State = 'open' | 'closing' | 'terminated' | 'closed'

type Parts = {
  readonly clock: SimulatedClock
  readonly random: SeededRandom
  readonly machine: string
  readonly agent: SimulatedProcess
  readonly listener: SocketListener
  latencyMs(): number
  isCut(direction: Direction): boolean
  mishap(): Mishap | null
  onOver(): void
}

const goodbyeMsMax = 2_000
/** How long the market waits for the other side's goodbye, as `ws` does. */
const marketGoodbyeMsMax = 30_000
/** A segment that got lost is sent again after so long at most. */
const resentMsMax = 20_000

/** One TCP connection with a WebSocket on it, and what can become of both. */
export function createConnection(parts: Parts) {
  const { clock, random, latencyMs, mishap, machine, agent, listener } = parts
  const state: { agent: State; market: State } = { agent: 'open', market: 'open' }
  let market: SimulatedProcess | null = null
  let conversation: Conversation | null = null
  let isPaused = false
  const unread: string[] = []

  const toMarket = pipe('to market', (item) => {
    if (!market || state.market === 'closed') return
    market.run(() => {
      if (state.market === 'closed') return
      if ('closed' in item) return endMarket()
      if (isPaused) unread.push(item.text)
      else conversation!.received(item.text)
    })
  })
  const toAgent = pipe('to agent', (item) => {
    agent.run(() => {
      if (state.agent === 'closed' || state.agent === 'terminated') return
      if ('closed' in item) return endAgent(item.closed)
      listener.message(item.text)
    })
  })

  function pipe(direction: Direction, deliver: Pipe['deliver']): Pipe {
    return createPipe({ clock, random, latencyMs, mishap, isCut: () => parts.isCut(direction), deliver })
  }

  function endAgent(reason: string) {
    if (state.agent === 'closed') return
    state.agent = 'closed'
    if (agent.isAlive()) listener.closed(reason)
    toMarket.put({ closed: reason })
    checkOver()
  }
  function endMarket() {
    if (state.market === 'closed') return
    state.market = 'closed'
    if (market?.isAlive()) conversation?.closed()
    toAgent.put({ closed: 'the market has closed it' })
    checkOver()
  }
  function checkOver() {
    if (state.agent === 'closed' && (state.market === 'closed' || market === null)) parts.onOver()
  }
  function resume() {
    isPaused = false
    while (!isPaused && unread.length > 0) conversation!.received(unread.shift()!)
  }

  const agentSocket = {
    send: (text: string) => void (agent.crosses() && state.agent === 'open' && toMarket.put({ text })),
    close(reason: string) {
      if (state.agent !== 'open' || !agent.crosses()) return
      state.agent = 'closing'
      toMarket.put({ closed: reason })
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
    bufferedBytes: toAgent.heldBytes,
    send: (text) => void (market!.crosses() && state.market === 'open' && toAgent.put({ text })),
    letIn() {},
    close() {
      if (state.market !== 'open' || !market!.crosses()) return
      state.market = 'closing'
      toAgent.put({ closed: 'the market has closed it' })
      market!.after(marketGoodbyeMsMax, endMarket)
    },
    terminate() {
      if (market!.isAlive()) market!.after(0, endMarket)
    },
    pause: () => (isPaused = true),
    resume: () => market!.after(0, resume),
  }

  return {
    agent,
    machine,
    agentSocket,
    open(process: SimulatedProcess, accept: (socket: AgentSocket) => Conversation) {
      if (state.agent === 'closed') return
      market = process
      conversation = accept(marketSocket)
    },
    refuse(reason: string) {
      state.market = 'closed'
      agent.run(() => endAgent(reason))
    },
    /** The weather is better: what was held up goes on its way. */
    goOn() {
      toMarket.goOn()
      toAgent.goOn()
    },

    /** A process is gone. What it sent last may not have left its machine; `isHeard`: the other end is told that it is over. */
    peerDied(who: 'agent' | 'market', isHeard: boolean) {
      if (who === 'market' && !market) return
      const wasOpen = state[who] !== 'closed'
      state[who] = 'closed'
      const ownPipe = who === 'market' ? toAgent : toMarket
      ownPipe.loseTheLast()
      if (wasOpen && isHeard) ownPipe.put({ closed: 'the connection broke' })
      checkOver()
    },

    /** A segment was lost for good: nothing arrives any more, and both ends hear of it sooner or later. */
    drop() {
      toMarket.lose()
      toAgent.lose()
      clock.after(random.integer(1, resentMsMax), () => agent.run(() => endAgent('the connection broke')))
      clock.after(random.integer(1, resentMsMax), () => market?.run(endMarket))
    },

    /** It is dead, and at least one end does not know: only the timeouts of the dialogue find out. */
    halfOpen(whoHears: 'neither' | 'agent' | 'market') {
      toMarket.lose()
      toAgent.lose()
      if (whoHears === 'agent') agent.run(() => endAgent('the connection broke'))
      if (whoHears === 'market') market?.run(endMarket)
    },

    /** The agent hears that it is over; what it has sent is still on its way, and arrives when it has another connection. */
    overtake() {
      toMarket.stall(random.integer(1_000, resentMsMax))
      toAgent.lose()
      agent.run(() => endAgent('the connection broke'))
    },
  }
}
