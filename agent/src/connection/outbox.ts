import type { ReliableMessage } from './wire-messages.ts'

export type OutboxOptions = {
  /** Bytes that may wait before output is refused. What an attempt ends with always has room. */
  readonly waitingBytesMax?: number
  /** Bytes that may be on their way before the next message waits for an acknowledgement. */
  readonly unacknowledgedBytesMax?: number
}

type Entry = {
  /** The message as JSON, without its number. */
  readonly body: string
  readonly attemptId: string | null
  readonly type: ReliableMessage['type']
  /** Given when it is first sent, so that what has not been sent can still be dropped without leaving a gap. */
  seq: number | null
  readonly onAcknowledged: (() => void) | undefined
}

/** What is dropped when it does not fit: more of it comes without end. */
const bulk: readonly ReliableMessage['type'][] = ['attempt.output', 'attempt.log', 'attempt.file', 'attempt.preparing']

/**
 * Messages that must arrive: each is kept until the server has acknowledged it, and sent again after a reconnect, in the
 * same order and with the same number.
 */
export class Outbox {
  readonly #waitingBytesMax: number
  readonly #unacknowledgedBytesMax: number
  /** Sent ones first, then those that wait. */
  #entries: Entry[] = []
  #sentCount = 0
  #nextSeq = 1
  #bytes = 0
  #sentBytes = 0
  #send: ((text: string) => void) | null = null
  #emptied: (() => void)[] = []

  constructor({ waitingBytesMax = 64_000_000, unacknowledgedBytesMax = 4_000_000 }: OutboxOptions = {}) {
    this.#waitingBytesMax = waitingBytesMax
    this.#unacknowledgedBytesMax = unacknowledgedBytesMax
  }

  /** The last number that was given. */
  get lastSeq(): number {
    return this.#nextSeq - 1
  }

  /** Everything up to this number has been acknowledged. */
  get acknowledgedSeq(): number {
    return this.lastSeq - this.#sentCount
  }

  /** False: there is no room, and the message is not sent. */
  add(message: ReliableMessage, onAcknowledged?: () => void): boolean {
    const body = JSON.stringify(message)
    if (this.#bytes + body.length > this.#waitingBytesMax && bulk.includes(message.type)) return false
    const attemptId = 'attempt_id' in message ? message.attempt_id : null
    this.#entries.push({ body, attemptId, type: message.type, seq: null, onAcknowledged })
    this.#bytes += body.length
    this.#pump()
    return true
  }

  /** A connection is ready. Everything that the server has not acknowledged is sent, again or for the first time. */
  connect(send: (text: string) => void, acknowledgedSeq: number): void {
    this.#send = null
    this.acknowledge(acknowledgedSeq)
    this.#send = send
    for (const entry of this.#entries.slice(0, this.#sentCount)) send(numbered(entry))
    this.#pump()
  }

  disconnect(): void {
    this.#send = null
  }

  acknowledge(seq: number): void {
    let count = 0
    while (count < this.#sentCount && this.#entries[count]!.seq! <= seq) count++
    const acknowledged = this.#entries.splice(0, count)
    this.#sentCount -= count
    for (const { body } of acknowledged) {
      this.#bytes -= body.length
      this.#sentBytes -= body.length
    }
    for (const { onAcknowledged } of acknowledged) onAcknowledged?.()
    this.#pump()
    if (this.#entries.length === 0) for (const emptied of this.#emptied.splice(0)) emptied()
  }

  /** Drops what has never been sent. */
  dropUnsent(isUnwanted: (entry: { type: ReliableMessage['type']; attemptId: string | null }) => boolean): void {
    const waiting = this.#entries.splice(this.#sentCount)
    for (const entry of waiting) {
      if (isUnwanted(entry)) this.#bytes -= entry.body.length
      else this.#entries.push(entry)
    }
  }

  /** What of an attempt the server may not have, as JSON texts. */
  unacknowledgedOf(attemptId: string): string[] {
    return this.#entries.filter((entry) => entry.attemptId === attemptId).map(({ body }) => body)
  }

  /** Resolves when everything is acknowledged. */
  async emptied(): Promise<void> {
    if (this.#entries.length > 0) await new Promise<void>((resolve) => this.#emptied.push(resolve))
  }

  #pump(): void {
    while (this.#send !== null && this.#sentCount < this.#entries.length) {
      const entry = this.#entries[this.#sentCount]!
      if (this.#sentBytes > 0 && this.#sentBytes + entry.body.length > this.#unacknowledgedBytesMax) return
      entry.seq = this.#nextSeq++
      this.#sentCount++
      this.#sentBytes += entry.body.length
      this.#send(numbered(entry))
    }
  }
}

function numbered({ body, seq }: Entry): string {
  return `{"seq":${seq},${body.slice(1)}`
}
