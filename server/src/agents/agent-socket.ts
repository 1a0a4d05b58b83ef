import { agentMessageBytesMax, agentSocketPath } from '@orbyte/protocol'
import type { FastifyInstance } from 'fastify'
import { type WebSocket, WebSocketServer } from 'ws'
import type { Context } from '../context.ts'
import { converse, type ConversationParts } from './agent-conversation.ts'

/** The agents' WebSocket. What is said on it is agent-conversation.ts's. */
export function mountAgentSocket(app: FastifyInstance, context: Context, parts: ConversationParts) {
  const sockets = new WebSocketServer({ noServer: true, maxPayload: agentMessageBytesMax, perMessageDeflate: false })
  app.server.on('upgrade', (request, socket, head) => {
    const path = request.url?.split('?')[0]?.replace(/\/$/, '')
    // HTTP no longer listens on it: a caller who hangs up in this moment must not be an error that nobody hears.
    socket.on('error', () => socket.destroy())
    if (path !== agentSocketPath) return socket.end('HTTP/1.1 404 Not Found\r\nConnection: close\r\n\r\n')
    sockets.handleUpgrade(request, socket, head, (opened) => connect(opened, context, parts))
  })
  app.addHook('preClose', async () => {
    for (const socket of sockets.clients) socket.terminate()
    sockets.close()
  })
}

function connect(socket: WebSocket, context: Context, parts: ConversationParts) {
  const conversation = converse(
    {
      isOpen: () => socket.readyState === socket.OPEN,
      bufferedBytes: () => socket.bufferedAmount,
      send: (text) => socket.send(text),
      close(code) {
        socket.close(code)
        // The other side's goodbye has to be read.
        if (socket.isPaused) socket.resume()
      },
      terminate: () => socket.terminate(),
      pause: () => socket.pause(),
      resume: () => socket.resume(),
    },
    context,
    parts,
  )
  socket.on('message', (data, isBinary) => conversation.received(isBinary ? null : data.toString()))
  socket.on('error', () => socket.terminate())
  socket.on('close', () => conversation.closed())
}
