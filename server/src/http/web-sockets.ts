import type { Duplex } from 'node:stream'
import type { FastifyInstance } from 'fastify'
import { type WebSocket, WebSocketServer } from 'ws'
import type { Context } from '../context.ts'
import { callerNetwork, clientAddress } from './client-address.ts'

/**
 * A socket as it comes in: from which network, and what to call when it is a stranger's no longer, which also listens on `raw` for
 * its end.
 */
export type Arrival = { readonly raw: Duplex; readonly network: string; readonly left: () => void }

/** One path where WebSockets may be opened, and what is done with each. */
export type SocketDoor = {
  readonly path: string
  readonly messageBytesMax: number
  /** Null: there are too many already. Else what is called when it has left, at the latest with its end. */
  readonly admit?: (network: string) => (() => void) | null
  readonly connect: (opened: WebSocket, arrival: Arrival) => void
  /** Before the server closes. Default: they are cut off. */
  readonly close?: (socket: WebSocket) => void
}

export function mountSockets(app: FastifyInstance, context: Pick<Context, 'config'>, doors: readonly SocketDoor[]) {
  const opened = doors.map((door) => ({
    ...door,
    server: new WebSocketServer({ noServer: true, maxPayload: door.messageBytesMax, perMessageDeflate: false }),
  }))
  app.server.on('upgrade', (request, socket, head) => {
    // HTTP no longer listens on it: a caller who hangs up in this moment must not be an error that nobody hears.
    socket.on('error', hangUp)
    const door = opened.find(isAt(request.url?.split('?')[0]?.replace(/\/$/, '')))
    if (!door) return refuse(socket, '404 Not Found')
    const network = callerNetwork(clientAddress(request, context.config.trustedProxies))
    const left = door.admit ? door.admit(network) : () => {}
    if (!left) return refuse(socket, '503 Service Unavailable')
    socket.on('close', left)
    door.server.handleUpgrade(request, socket, head, (webSocket) => {
      socket.off('error', hangUp)
      door.connect(webSocket, { raw: socket, network, left })
    })
  })
  app.addHook('preClose', async () => {
    for (const { server, close = (socket: WebSocket) => socket.terminate() } of opened) {
      for (const socket of server.clients) close(socket)
      server.close()
    }
  })
}

const isAt = (path: string | undefined) => (door: SocketDoor) => door.path === path

function hangUp(this: Duplex) {
  this.destroy()
}

function refuse(socket: Duplex, status: string) {
  socket.end(`HTTP/1.1 ${status}\r\nConnection: close\r\n\r\n`)
}
