import { agentMessageBytesMax, agentSocketPath } from '@orbyte/protocol'
import type { WebSocket } from 'ws'
import type { Context } from '../context.ts'
import type { SocketDoor } from '../http/web-sockets.ts'
import { converse, type ConversationParts } from './agent-conversation.ts'

/** The agents' WebSocket. What is said on it is agent-conversation.ts's. */
export function agentDoor(context: Context, parts: ConversationParts): SocketDoor {
  return {
    path: agentSocketPath,
    messageBytesMax: agentMessageBytesMax,
    connect: (socket) => connect(socket, context, parts),
  }
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
