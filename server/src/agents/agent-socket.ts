import type { Duplex } from 'node:stream'
import { agentMessageBytesMax, agentSocketPath } from '@orbyte/protocol'
import type { WebSocket } from 'ws'
import type { Context } from '../context.ts'
import type { SocketDoor } from '../http/web-sockets.ts'
import { type AgentSocket, converse, type ConversationParts } from './agent-conversation.ts'

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
    connect: (socket, { raw, left }) => converse(new OpenSocket(socket, raw, left), context, parts),
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

/** What is kept of each lies here and in few closures: there are thousands. */
class OpenSocket implements AgentSocket {
  readonly #socket: WebSocket
  readonly #stream: Duplex
  /** What only a stranger needs. Null: they were let in. */
  #stranger: { readonly count: (data: Buffer) => void; readonly left: () => void } | null

  constructor(socket: WebSocket, stream: Duplex, left: () => void) {
    this.#socket = socket
    this.#stream = stream
    this.#stranger = { count: countBytes(socket), left }
    stream.on('data', this.#stranger.count)
  }

  letIn() {
    if (!this.#stranger) return
    const { count, left } = this.#stranger
    this.#stranger = null
    this.#stream.off('data', count)
    this.#stream.off('close', left)
    left()
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
    this.#socket.resume()
  }
}

/** A message is in memory while it arrives, before anybody looks at it: that much is for agents only. */
function countBytes(socket: WebSocket): (data: Buffer) => void {
  let bytes = 0
  return (data) => {
    bytes += data.length
    if (bytes > strangersMax.bytesEach) socket.terminate()
  }
}

/** What is said in one turn of the event loop leaves in one piece: a write costs more than the message. */
function gather(stream: Duplex) {
  if (stream.writableCorked > 0) return
  stream.cork()
  process.nextTick(() => stream.uncork())
}
