import { liveMessageBytesMax, livePath } from '@orbyte/protocol'
import type { Context } from '../context.ts'
import type { SocketDoor } from '../http/web-sockets.ts'
import type { AuthenticationService } from '../users/authentication-service.ts'
import { createVisitors, watchLive } from './live-conversation.ts'
import type { LiveService } from './live-service.ts'

/** The watchers' WebSocket. What is said on it is live-conversation.ts's. */
export function liveDoor(
  context: Context,
  parts: { live: LiveService; authentication: AuthenticationService },
): SocketDoor {
  const visitors = createVisitors(context.config.limits.streamsPerUserMax)
  return {
    path: livePath,
    messageBytesMax: liveMessageBytesMax,
    connect: (socket, { network }) =>
      watchLive(
        {
          isOpen: () => socket.readyState === socket.OPEN,
          bufferedBytes: () => socket.bufferedAmount,
          send: (text, sent) => socket.send(text, (error) => (error ? socket.terminate() : sent())),
          close: (code, reason) => socket.close(code, reason),
          terminate: () => socket.terminate(),
        },
        context,
        { ...parts, visitors, network },
      ),
  }
}
