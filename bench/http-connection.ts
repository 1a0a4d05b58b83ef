import { connect, type Socket } from 'node:net'

export type Reply = { status: number; body: string }

/**
 * One connection to a server that answers with Content-Length, one request at a time. A client for load: it costs a fraction of
 * what Node's own does, because it shares the machine with what is measured.
 */
export type HttpConnection = {
  post(path: string, call: { key: string; body: string }): Promise<Reply>
  close(): void
}

const headEnd = '\r\n\r\n'

export function openHttpConnection(url: string): HttpConnection {
  const { hostname, port } = new URL(url)
  const socket: Socket = connect({ host: hostname, port: Number(port), noDelay: true })
  let waiting: { resolve: (reply: Reply) => void; reject: (error: Error) => void } | null = null
  let received = ''

  socket.setEncoding('latin1')
  socket.on('data', (chunk) => {
    received = received === '' ? String(chunk) : received + String(chunk)
    const reply = parseReply(received)
    if (reply === null) return
    received = ''
    const { resolve } = waiting!
    waiting = null
    resolve(reply)
  })
  const fail = (error: Error) => {
    waiting?.reject(error)
    waiting = null
  }
  socket.on('error', fail)
  socket.on('close', () => fail(new Error('the server has hung up')))

  return {
    post(path, { key, body }) {
      return new Promise((resolve, reject) => {
        waiting = { resolve, reject }
        socket.write(
          `POST ${path} HTTP/1.1\r\nhost: ${hostname}:${port}\r\nauthorization: Bearer ${key}\r\n` +
            `content-type: application/json\r\ncontent-length: ${Buffer.byteLength(body)}${headEnd}${body}`,
        )
      })
    },
    close: () => void socket.destroy(),
  }
}

/** Null: not all of it is here yet. */
function parseReply(text: string): Reply | null {
  const bodyStart = text.indexOf(headEnd) + headEnd.length
  if (bodyStart < headEnd.length) return null
  const length = /\r\ncontent-length: *(\d+)/i.exec(text)
  if (!length) throw new Error('a reply without Content-Length')
  if (text.length - bodyStart < Number(length[1])) return null
  return { status: Number(text.slice(9, 12)), body: text.slice(bodyStart) }
}
