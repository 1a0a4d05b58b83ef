import type { Duplex } from 'node:stream'
import { agentMessageBytesMax, agentSocketPath } from '@orbyte/protocol'
import type { FastifyInstance } from 'fastify'
import { type WebSocket, WebSocketServer } from 'ws'
import type { Context } from '../context.ts'
import { callerNetwork, clientAddress } from '../http/client-address.ts'
import { type AgentSocket, type Conversation, converse, type ConversationParts } from './agent-conversation.ts'

/**
 * Whoever has not said hello is anybody, and may take no more than this of the market's memory: sockets of one address and of all
 * together, and what is read of one. More than any hello of 256 devices; more machines than start at once behind one address.
 */
const strangersMax = { perNetwork: 128, together: 512, bytesEach: 1_500_000 }

/** The agents' WebSocket. What is said on it is agent-conversation.ts's. */
export function mountAgentSocket(app: FastifyInstance, context: Context, parts: ConversationParts) {
  const sockets = new WebSocketServer({ noServer: true, maxPayload: agentMessageBytesMax, perMessageDeflate: false })
  const strangers = createStrangers()
  app.server.on('upgrade', (request, socket, head) => {
    // HTTP no longer listens on it: a caller who hangs up in this moment must not be an error that nobody hears.
    socket.on('error', () => socket.destroy())
    const path = request.url?.split('?')[0]?.replace(/\/$/, '')
    if (path !== agentSocketPath) return refuse(socket, '404 Not Found')
    const network = callerNetwork(clientAddress(request, context.config.trustedProxies))
    const known = strangers.come(network)
    if (!known) return refuse(socket, '503 Service Unavailable')
    socket.once('close', known)
    sockets.handleUpgrade(request, socket, head, (opened) => {
      const conversation = connect(opened, socket, (agent) => converse(agent, context, parts))
      watchStranger(socket, conversation, { known, tooMuch: () => opened.terminate() })
    })
  })
  app.addHook('preClose', async () => {
    for (const socket of sockets.clients) socket.terminate()
    sockets.close()
  })
}

function refuse(socket: Duplex, status: string) {
  socket.end(`HTTP/1.1 ${status}\r\nConnection: close\r\n\r\n`)
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
