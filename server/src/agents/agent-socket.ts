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
      const conversation = connect(opened, raw, (agent) => converse(agent, context, parts))
      watchStranger(raw, conversation, { known: left, tooMuch: () => opened.terminate() })
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

type Stranger = { readonly known: () => void; readonly tooMuch: () => void }

/** A message is in memory while it arrives, before anybody looks at it: that much is for agents only. */
function watchStranger(socket: Duplex, conversation: Conversation, { known, tooMuch }: Stranger) {
  let bytes = 0
  const look = (data: Buffer) => {
    bytes += data.length
    if (conversation.isLetIn()) {
      socket.off('data', look)
      known()
    } else if (bytes > strangersMax.bytesEach) tooMuch()
  }
  socket.on('data', look)
}

function connect(socket: WebSocket, stream: Duplex, begin: (agent: AgentSocket) => Conversation): Conversation {
  const conversation = begin({
    isOpen: () => socket.readyState === socket.OPEN,
    bufferedBytes: () => socket.bufferedAmount,
    send(text) {
      gather(stream)
      socket.send(text)
    },
    close(code) {
      socket.close(code)
      // The other side's goodbye has to be read.
      if (socket.isPaused) socket.resume()
    },
    terminate: () => socket.terminate(),
    pause: () => socket.pause(),
    resume: () => socket.resume(),
  })
  socket.on('message', (data, isBinary) => conversation.received(isBinary ? null : data.toString()))
  socket.on('error', () => socket.terminate())
  socket.on('close', () => conversation.closed())
  return conversation
}

/** What is said in one turn of the event loop leaves in one piece: a write costs more than the message. */
function gather(stream: Duplex) {
  if (stream.writableCorked > 0) return
  stream.cork()
  process.nextTick(() => stream.uncork())
}
