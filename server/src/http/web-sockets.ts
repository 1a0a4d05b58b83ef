import type { Duplex } from 'node:stream'
import type { FastifyInstance } from 'fastify'
import { type RawData, type WebSocket, WebSocketServer } from 'ws'
import type { Context } from '../context.ts'
import { callerNetwork, clientAddress } from './client-address.ts'

/**
 * A socket as it comes in: from which network, and what to call when it is a stranger's no longer, which also listens on `raw` for
 * its end.
 */
export type Arrival = { readonly raw: Duplex; readonly network: string; readonly left: () => void }

/** Who speaks on a socket, from this side. */
export type SocketListener = {
  /** Null: what arrived is no text. */
  received(text: string | null): void
  closed(): void
  /** The server closes. Default: the socket is cut off. */
  stopping?(): void
}

/** One path where WebSockets may be opened, and what is done with each. */
export type SocketDoor = {
  readonly path: string
  readonly messageBytesMax: number
  /** Null: there are too many already. Else what is called when it has left, at the latest with its end. */
  readonly admit?: (network: string) => (() => void) | null
  readonly connect: (opened: WebSocket, arrival: Arrival) => SocketListener
}

export function mountSockets(app: FastifyInstance, context: Pick<Context, 'config'>, doors: readonly SocketDoor[]) {
  const opened = doors.map((door) => ({ ...door, server: serverOf(door) }))
  const open = createOpenSockets()
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
      open.add(webSocket, door.connect(webSocket, { raw: socket, network, left }))
    })
  })
  app.addHook('preClose', async () => {
    open.stop()
    for (const { server } of opened) server.close()
  })
}

/** It keeps no list of its own: whoever is open is known here. */
function serverOf({ messageBytesMax: maxPayload }: SocketDoor): WebSocketServer {
  return new WebSocketServer({ noServer: true, clientTracking: false, maxPayload, perMessageDeflate: false })
}

/** Functions are there once, and not for each socket: there are thousands. */
function createOpenSockets() {
  const listeners = new Map<WebSocket, SocketListener>()

  function received(this: WebSocket, data: RawData, isBinary: boolean) {
    listeners.get(this)?.received(isBinary ? null : data.toString())
  }

  function closed(this: WebSocket) {
    const listener = listeners.get(this)
    listeners.delete(this)
    listener?.closed()
  }

  return {
    add(socket: WebSocket, listener: SocketListener) {
      listeners.set(socket, listener)
      socket.on('message', received).on('error', cutOff).on('close', closed)
    },
    stop() {
      for (const [socket, listener] of listeners) {
        if (listener.stopping) listener.stopping()
        else socket.terminate()
      }
    },
  }
}

function cutOff(this: WebSocket) {
  this.terminate()
}

const isAt = (path: string | undefined) => (door: SocketDoor) => door.path === path

function hangUp(this: Duplex) {
  this.destroy()
}

function refuse(socket: Duplex, status: string) {
  socket.end(`HTTP/1.1 ${status}\r\nConnection: close\r\n\r\n`)
}
