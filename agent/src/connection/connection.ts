import { agentMessageBytesMax, agentSocketPath, type ServerMessage, type ServerMessageOf } from '@orbyte/protocol'
import { type Moment, momentNow } from '../clock.ts'
import type { Outside, Socket } from '../outside.ts'
import { type Backoff, defaultBackoff, reconnectDelayMs } from './backoff.ts'
import { parseServerMessage, type WireAgentMessage, type WireMessageOf } from './wire-messages.ts'

type ConnectionTiming = Backoff & {
  /** From the first packet to the welcome. */
  readonly handshakeMsMax: number
}
const defaultTiming: ConnectionTiming = { ...defaultBackoff, handshakeMsMax: 15_000 }
/** So many messages that are none, and the connection is given up: something else than a market is there. */
const garbageMax = 20

export type ConnectionOptions = {
  readonly server: string
  readonly outside: Pick<Outside, 'clock' | 'random' | 'log' | 'network'>
  /** Multiplies its times. */
  readonly timeScale: number
  hello(nonce: string): WireMessageOf<'hello'>
  /** The dialogue is open. `helloSentAt`: the server has answered after that. */
  onWelcome(welcome: ServerMessageOf<'welcome'>, helloSentAt: Moment): void
  /** Everything that comes after the welcome. */
  onMessage(message: ServerMessage): void
  onLost(): void
}

export type Refusal = { readonly code: string; readonly message: string }

type Phase = 'opening' | 'introduced' | 'welcome'
type Conversation = {
  readonly socket: Socket
  phase: Phase
  helloSentAt: Moment | null
  /** What overtook the welcome. */
  readonly early: ServerMessage[]
  garbage: number
  /** Why this side ended it, for a person. */
  reason: string | null
  refusal: Refusal | null
}

/**
 * The one connection to the market: always outbound, opened again whenever it is lost. See the dialogue in the protocol's
 * agent-messages.ts.
 */
export class Connection {
  readonly #options: ConnectionOptions
  readonly #timing: ConnectionTiming
  #conversation: Conversation | null = null
  #failedTries = 0
  #complaint = ''

  constructor(options: ConnectionOptions) {
    this.#options = options
    this.#timing = scaledTiming(options.timeScale)
  }

  isOpen(): boolean {
    return this.#conversation?.phase === 'welcome'
  }

  /** What keeps it from the market, for a person. */
  problems(): string[] {
    return this.isOpen() || this.#complaint === '' ? [] : [this.#complaint]
  }

  /** Connects, and connects again, until the signal aborts (null) or the server says that coming back will not help. */
  async run(signal: AbortSignal): Promise<Refusal | null> {
    const { clock, random } = this.#options.outside
    while (!signal.aborted) {
      const refusal = await this.#converse(signal)
      if (refusal !== null) return refusal
      const delayMs = reconnectDelayMs(this.#failedTries++, random, this.#timing)
      await clock.sleep(delayMs, signal).catch(() => {})
    }
    return null
  }

  /** Sends now, or not at all where there is no connection. */
  send(message: WireAgentMessage): void {
    if (this.isOpen()) this.#conversation?.socket.send(JSON.stringify(message))
  }

  sendText(text: string): void {
    if (this.isOpen()) this.#conversation?.socket.send(text)
  }

  /** Hangs up; a new connection follows. */
  drop(reason: string): void {
    if (this.#conversation === null) return
    this.#conversation.reason = reason
    this.#conversation.socket.terminate()
  }

  /** It works: the next loss begins with a short wait again. */
  confirm(): void {
    this.#failedTries = 0
    this.#complaint = ''
  }

  async #converse(signal: AbortSignal): Promise<Refusal | null> {
    const { clock, network } = this.#options.outside
    const over = new AbortController()
    const refusal = await new Promise<Refusal | null>((resolve) => {
      const conversation: Conversation = {
        socket: network.connect(socketUrl(this.#options.server), {
          message: (text) => this.#receive(conversation, text),
          closed: (reason) => {
            this.#closed(conversation)
            const isOver = signal.aborted || conversation.refusal !== null
            if (!isOver) this.#complain(conversation.reason ?? `No connection to ${this.#options.server}: ${reason}.`)
            resolve(conversation.refusal)
          },
        }),
        phase: 'opening',
        helloSentAt: null,
        early: [],
        garbage: 0,
        reason: null,
        refusal: null,
      }
      this.#conversation = conversation
      const goodbye = () => conversation.socket.close('the agent stops')
      signal.addEventListener('abort', goodbye, { signal: over.signal })
      const tooLate = () =>
        conversation.phase !== 'welcome' && this.drop(`${this.#options.server} does not answer as a market does.`)
      clock.sleep(this.#timing.handshakeMsMax, over.signal).then(tooLate, () => {})
    })
    over.abort()
    return refusal
  }

  #closed(conversation: Conversation): void {
    this.#conversation = null
    if (conversation.phase === 'welcome') this.#options.onLost()
  }

  #receive(conversation: Conversation, text: string): void {
    const message = text.length > agentMessageBytesMax ? new Error('it is too long') : parseServerMessage(text)
    if (message instanceof Error) return this.#survive(conversation, message)
    switch (message.type) {
      case 'challenge':
        return this.#introduce(conversation, message.nonce)
      case 'welcome':
        if (conversation.phase !== 'introduced')
          return this.#survive(conversation, new Error('a welcome before its time'))
        conversation.phase = 'welcome'
        this.#options.onWelcome(message, conversation.helloSentAt!)
        return conversation.early.splice(0).forEach((early) => this.#options.onMessage(early))
      case 'refused':
        return this.#refused(conversation, message)
      case 'ack':
      case 'heartbeat.ack':
      case 'gpus':
      case 'attempt.start':
      case 'attempt.stop':
        if (conversation.phase === 'welcome') this.#options.onMessage(message)
        else if (conversation.phase === 'introduced') conversation.early.push(message)
        else this.#survive(conversation, new Error(`${message.type} before the challenge`))
    }
  }

  #introduce(conversation: Conversation, nonce: string): void {
    if (conversation.phase !== 'opening') return this.#survive(conversation, new Error('a second challenge'))
    conversation.phase = 'introduced'
    conversation.helloSentAt = momentNow(this.#options.outside.clock)
    conversation.socket.send(JSON.stringify(this.#options.hello(nonce)))
  }

  #refused(conversation: Conversation, { code, message, retry }: ServerMessageOf<'refused'>): void {
    if (retry) conversation.reason = `The market refuses this agent for now: ${message} (${code})`
    else conversation.refusal = { code, message }
    conversation.socket.close('refused')
  }

  #survive(conversation: Conversation, error: Error): void {
    conversation.garbage++
    if (conversation.garbage === 1) {
      this.#options.outside.log.warn(`The server sent a message that was ignored: ${error.message}`)
    }
    if (conversation.garbage >= garbageMax) this.drop('The server does not speak the agents’ protocol.')
  }

  /** Once a trouble, not once a try. */
  #complain(complaint: string): void {
    if (complaint !== this.#complaint) this.#options.outside.log.warn(`${complaint} Trying again.`)
    this.#complaint = complaint
  }
}

function scaledTiming(factor: number): ConnectionTiming {
  const { firstMs, longestMs, handshakeMsMax } = defaultTiming
  return { firstMs: firstMs * factor, longestMs: longestMs * factor, handshakeMsMax: handshakeMsMax * factor }
}

function socketUrl(server: string): string {
  return `${server.replace(/^http/, 'ws')}${agentSocketPath}`
}
