import type { Duplex } from 'node:stream'
import { agentMessageBytesMax, agentSocketPath } from '@orbyte/protocol'
import type { FastifyInstance } from 'fastify'
import { type WebSocket, WebSocketServer } from 'ws'
import type { Context } from '../context.ts'
import { type AgentSocket, type Conversation, converse, type ConversationParts } from './agent-conversation.ts'

/** The agents' WebSocket. What is said on it is agent-conversation.ts's. */
export function mountAgentSocket(app: FastifyInstance, context: Context, parts: ConversationParts) {
  const sockets = new WebSocketServer({ noServer: true, maxPayload: agentMessageBytesMax, perMessageDeflate: false })
  app.server.on('upgrade', (request, socket, head) => {
    const path = request.url?.split('?')[0]?.replace(/\/$/, '')
    if (path !== agentSocketPath) return socket.end('HTTP/1.1 404 Not Found\r\nConnection: close\r\n\r\n')
    sockets.handleUpgrade(request, socket, head, (opened) =>
      connect(opened, socket, (agent) => converse(agent, context, parts)),
    )
  })
  app.addHook('preClose', async () => {
    for (const socket of sockets.clients) socket.terminate()
    sockets.close()
  })
}

function connect(socket: WebSocket, stream: Duplex, begin: (agent: AgentSocket) => Conversation) {
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
}

/** What is said in one turn of the event loop leaves in one piece: a write costs more than the message. */
function gather(stream: Duplex) {
  if (stream.writableCorked > 0) return
  stream.cork()
  process.nextTick(() => stream.uncork())
}
