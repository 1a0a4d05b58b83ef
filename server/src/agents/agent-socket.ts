import type { Duplex } from 'node:stream'
import { agentMessageBytesMax, agentSocketPath } from '@orbyte/protocol'
import type { WebSocket } from 'ws'
import type { Context } from '../context.ts'
import type { SocketDoor } from '../http/web-sockets.ts'
import { type AgentSocket, type Conversation, converse, type ConversationParts } from './agent-conversation.ts'

/**
 * Whoever has not said hello is anybody, and may take no more than this of the market's memory: sockets of one address and of all
 * together, and what is read of one. More than any hello of 256 devices; more machines than start at once behind one address.
 */
const strangersMax = { perNetwork: 128, together: 512, bytesEach: 1_500_000 }

/** The agents' WebSocket. What is said on it is agent-conversation.ts's. */
export function agentDoor(context: Context, parts: ConversationParts): SocketDoor {
  const strangers = createStrangers()
  return {
    path: agentSocketPath,
    messageBytesMax: agentMessageBytesMax,
    admit: (network) => strangers.come(network),
    connect(opened, { raw, left }) {
      const stopCounting = countBytes(raw, () => opened.terminate())
      const letIn = () => {
        stopCounting()
        left()
      }
      connect(opened, raw, { begin: (agent) => converse(agent, context, parts), letIn })
    },
  }
}

/** Counts sockets on which nobody was let in yet. */
function createStrangers() {
  const perNetwork = new Map<string, number>()
  let together = 0
  return {
    /** Null: there are too many. Else what to call when it is one no longer; a second call does nothing. */
    come(network: string): (() => void) | null {
      const before = perNetwork.get(network) ?? 0
      if (before >= strangersMax.perNetwork || together >= strangersMax.together) return null
      perNetwork.set(network, before + 1)
      together++
      let isCounted = true
      return () => {
        if (!isCounted) return
        isCounted = false
        together--
        const left = perNetwork.get(network)! - 1
        if (left === 0) perNetwork.delete(network)
        else perNetwork.set(network, left)
      }
    },
  }
}

/** A message is in memory while it arrives, before anybody looks at it: that much is for agents only. */
function countBytes(socket: Duplex, tooMuch: () => void): () => void {
  let bytes = 0
  const count = (data: Buffer) => {
    bytes += data.length
    if (bytes > strangersMax.bytesEach) tooMuch()
  }
  socket.on('data', count)
  return () => socket.off('data', count)
}

type Dialogue = { begin: (agent: AgentSocket) => Conversation; letIn: () => void }

function connect(socket: WebSocket, stream: Duplex, { begin, letIn }: Dialogue) {
  // While it is dealt with whether to let somebody in, nothing is read of them.
  const resumed = () => {
    if (conversation.isLetIn()) letIn()
    return conversation.isLetIn()
  }
  const conversation = begin(new OpenSocket(socket, stream, resumed))
  socket.on('message', (data, isBinary) => conversation.received(isBinary ? null : data.toString()))
  socket.on('error', () => socket.terminate())
  socket.on('close', () => conversation.closed())
}

class OpenSocket implements AgentSocket {
  readonly #socket: WebSocket
  readonly #stream: Duplex
  /** Whether they were let in. Null: they were, and what only a stranger needs is forgotten. */
  #resumed: (() => boolean) | null

  constructor(socket: WebSocket, stream: Duplex, resumed: () => boolean) {
    this.#socket = socket
    this.#stream = stream
    this.#resumed = resumed
  }

  isOpen(): boolean {
    return this.#socket.readyState === this.#socket.OPEN
  }

  bufferedBytes(): number {
    return this.#socket.bufferedAmount
  }

  send(text: string) {
    gather(this.#stream)
    this.#socket.send(text)
  }

  close(code: number) {
    this.#socket.close(code)
    // The other side's goodbye has to be read.
    if (this.#socket.isPaused) this.#socket.resume()
  }

  terminate() {
    this.#socket.terminate()
  }

  pause() {
    this.#socket.pause()
  }

  resume() {
    if (this.#resumed?.()) this.#resumed = null
    this.#socket.resume()
  }
}

/** What is said in one turn of the event loop leaves in one piece: a write costs more than the message. */
function gather(stream: Duplex) {
  if (stream.writableCorked > 0) return
  stream.cork()
  process.nextTick(() => stream.uncork())
}
