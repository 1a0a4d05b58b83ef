import type { IncomingMessage } from 'node:http'
import type { FastifyInstance } from 'fastify'
import { type WebSocket, WebSocketServer } from 'ws'

/** One path where WebSockets may be opened, and what is done with each. */
export type SocketDoor = {
  readonly path: string
  readonly messageBytesMax: number
  readonly connect: (socket: WebSocket, request: IncomingMessage) => void
  /** Before the server closes. Default: they are cut off. */
  readonly close?: (socket: WebSocket) => void
}

export function mountSockets(app: FastifyInstance, doors: readonly SocketDoor[]) {
  const opened = doors.map((door) => ({
    ...door,
    server: new WebSocketServer({ noServer: true, maxPayload: door.messageBytesMax, perMessageDeflate: false }),
  }))
  app.server.on('upgrade', (request, socket, head) => {
    const path = request.url?.split('?')[0]?.replace(/\/$/, '')
    const door = opened.find((one) => one.path === path)
    if (!door) return socket.end('HTTP/1.1 404 Not Found\r\nConnection: close\r\n\r\n')
    door.server.handleUpgrade(request, socket, head, (webSocket) => door.connect(webSocket, request))
  })
  app.addHook('preClose', async () => {
    for (const { server, close = (socket: WebSocket) => socket.terminate() } of opened) {
      for (const socket of server.clients) close(socket)
      server.close()
    }
  })
}
