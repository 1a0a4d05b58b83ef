import type { Network } from '@orbyte/agent/outside.ts'

/** What an agent has said reliably, as it was on the wire. */
export type Said = {
  readonly type: string
  readonly seq: number
  readonly attempt_id?: string
  readonly outcome?: string
  readonly offset?: number
  readonly text?: string
}

type Answer = { readonly type: string; readonly seq?: number; readonly acked_seq?: number }
const answers = ['{"type":"ack"', '{"type":"welcome"', '{"type":"heartbeat.ack"']

/** The network of one agent process, with a witness who says what has been acknowledged to it. */
export function witnessed(network: Network, onAcknowledged: (said: Said) => void): Network {
  const sent = new Map<number, string>()

  function acknowledge(upTo: number) {
    for (const [seq, text] of sent) {
      if (seq > upTo) return
      sent.delete(seq)
      onAcknowledged(JSON.parse(text) as Said)
    }
  }

  return {
    connect(url, listener) {
      const socket = network.connect(url, {
        ...listener,
        message(text) {
          if (sent.size > 0 && answers.some((start) => text.startsWith(start))) {
            const { seq, acked_seq } = JSON.parse(text) as Answer
            acknowledge(seq ?? acked_seq ?? 0)
          }
          listener.message(text)
        },
      })
      return {
        ...socket,
        send(text) {
          const seq = /^\{"seq":(\d+),/.exec(text)?.[1]
          if (seq !== undefined) sent.set(Number(seq), text)
          socket.send(text)
        },
      }
    },
  }
}
