import { agentMessageBytesMax } from '@orbyte/protocol'
import { WebSocket } from 'ws'
import type { Network } from './outside.ts'

const openMsMax = 10_000
/** A closing handshake that nobody answers. */
const closeMsMax = 2_000

export const systemNetwork: Network = {
  connect(url, listener) {
    const socket = new WebSocket(url, {
      maxPayload: agentMessageBytesMax,
      handshakeTimeout: openMsMax,
      perMessageDeflate: false,
    })
    let trouble = ''
    socket.on('error', (error) => (trouble = error.message))
    socket.on('message', (data, isBinary) => listener.message(isBinary ? '' : String(data)))
    socket.on('close', (code, reason) => {
      listener.closed(
        trouble || String(reason) || (code === 1006 ? 'the connection broke' : `closed with code ${code}`),
      )
    })
    return {
      send: (text) => {
        if (socket.readyState === WebSocket.OPEN) socket.send(text)
      },
      close: (reason) => {
        socket.close(1000, reason)
        setTimeout(() => socket.terminate(), closeMsMax).unref()
      },
      terminate: () => socket.terminate(),
    }
  },
}
