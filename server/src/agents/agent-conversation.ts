import { AgentMessage, agentProtocolVersion, compiled, isTooDeep, ServerMessage, wireEncoder } from '@orbyte/protocol'
import type { Context } from '../context.ts'
import type { Scheduler } from '../scheduler/scheduler-service.ts'
import type { Connection } from './agent-connections.ts'
import { Throttle, Valve } from './agent-intake.ts'
import type { AgentService } from './agent-service.ts'
import type { AgentHere } from './agent-store.ts'

/** What the dialogue needs of a WebSocket, so that the simulation can bring another. */
export type AgentSocket = {
  isOpen(): boolean
  /** What is written and has not left yet. */
  bufferedBytes(): number
  send(text: string): void
  /** It is known who speaks: what is watched only of strangers is watched no more. */
  letIn(): void
  /** Says goodbye, with one of WebSocket's codes. */
  close(code: number): void
  /** Hangs up without waiting for anybody. */
  terminate(): void
  /** Nothing more is read until `resume`. */
  pause(): void
  resume(): void
}

/** What the socket tells the dialogue. */
export type Conversation = {
  /** Null: what arrived is no text. */
  received(text: string | null): void
  closed(): void
}

export type ConversationParts = { agents: AgentService; scheduler: Scheduler }

/** How long a fresh socket has to say hello. */
const helloMs = 10_000
/** Larger than any hello of 256 devices. */
const helloCharactersMax = 1_000_000
/** What one agent may have on its way to the disk before its socket is not read for a while: messages, and their size. */
const unfinishedMax = { messages: 1_000, characters: 32_000_000 }
/** An agent that reads so slowly that this much waits for it is disconnected. */
const bufferedBytesMax = 64_000_000

const encodeMessage = wireEncoder(ServerMessage)

/** The server's side of the dialogue of protocol/agent-messages.ts, on a socket that has just opened. */
export function converse(socket: AgentSocket, context: Context, parts: ConversationParts): Conversation {
  return new AgentConversation(socket, context, parts)
}

/** A class, because there are thousands at once: methods are there once, closures would be for each. */
class AgentConversation implements Conversation, Connection, InboxOwner {
  readonly #socket: AgentSocket
  readonly #context: Context
  readonly #parts: ConversationParts
  /** Of the challenge; empty once it is answered. */
  #nonce: string
  readonly #valve: Valve
  readonly #throttle: Throttle
  readonly #inbox: Inbox
  /** Null: something has been said. */
  #noHello: (() => void) | null
  #hungUp = false
  /** The number that is about to be acknowledged; 0: none is. */
  #dueAck = 0
  #agent: AgentHere | null = null

  constructor(socket: AgentSocket, context: Context, parts: ConversationParts) {
    this.#socket = socket
    this.#context = context
    this.#parts = parts
    this.#nonce = Buffer.from(context.random.bytes(24)).toString('base64url')
    this.#valve = new Valve(socket)
    this.#throttle = new Throttle(context.clock, this.#valve, context.config.limits.agentMessagesPerSecondMax)
    this.#inbox = new Inbox(this)
    this.#noHello = context.clock.after(helloMs, () =>
      this.#refuse('no_hello', 'The agent did not say hello in time.', true),
    )
    this.send({ type: 'challenge', protocol_version: agentProtocolVersion, nonce: this.#nonce })
  }

  send(message: ServerMessage): boolean {
    if (!this.#socket.isOpen()) return false
    if (this.#socket.bufferedBytes() > bufferedBytesMax) this.#socket.terminate()
    else this.#socket.send(JSON.stringify(encodeMessage(message)))
    return true
  }

  close() {
    this.#hungUp = true
    this.#socket.close(1000)
  }

  finished(): Promise<void> {
    return this.#inbox.finished()
  }

  received(text: string | null) {
    if (this.#hungUp) return
    const agent = this.#agent
    if (agent === null) return this.#receivedFirst(text)
    const message = parse(text)
    if (!message) return this.#refuse('invalid_message', notOfProtocol, true)
    if (message.type === 'hello') return this.#refuse('hello_expected', helloOnce, true)
    this.#parts.agents.heard(agent.id)
    this.#throttle.count()
    this.#inbox.receive(message, text!.length)
  }

  /** Of a stranger. Until it is their turn, their hello is a text that nobody has looked at. */
  #receivedFirst(text: string | null) {
    if (this.#noHello === null) return this.#refuse('hello_expected', helloOnce, true)
    this.#noHello()
    this.#noHello = null
    // Nothing more is read until the hello has been dealt with.
    this.#valve.shut('hello')
    this.#parts.agents.admission
      .inTurn(() => this.#greet(text))
      .catch((error: unknown) => {
        this.#context.log.error({ error }, 'an agent could not be let in')
        this.#refuse('not_handled', 'The market could not let the agent in. Come back later.', true)
      })
  }

  closed() {
    this.#noHello?.()
    this.#throttle.stop()
    if (this.#agent) this.#parts.agents.disconnected(this.#agent.id, this)
  }

  async #greet(text: string | null) {
    const { agents } = this.#parts
    if (this.#hungUp || !this.#socket.isOpen()) return
    const hello = text !== null && text.length > helloCharactersMax ? null : parse(text)
    if (!hello) return this.#refuse('invalid_message', notOfProtocol, true)
    if (hello.type !== 'hello') return this.#refuse('hello_expected', helloOnce, true)
    const nonce = this.#nonce
    this.#nonce = ''
    const found = await agents.admission.identify(hello, nonce)
    if ('type' in found) return this.#refuse(found.code, found.message, found.retry)
    await agents.welcome(found, hello, this)
    const { id, owner_id, hostname, version, region } = found
    this.#agent = { id, owner_id, hostname, version, region }
    // A market that was restarted has acknowledged nothing, and the one before it has.
    this.#inbox.startAt(Math.max(agents.ackedSeq(found.id), hello.acked_seq))
    // It may have gone while it was let in.
    if (!this.#socket.isOpen()) return agents.disconnected(found.id, this)
    this.#socket.letIn()
    this.#valve.open('hello')
  }

  #refuse(code: string, message: string, retry: boolean) {
    this.send({ type: 'refused', code, message, retry })
    this.#hungUp = true
    this.#socket.close(1008)
    if (this.#agent) this.#parts.agents.disconnected(this.#agent.id, this)
  }

  handle(message: Said): Promise<void> {
    return dispatch(message, this.#agent!, this.#parts)
  }

  /** Once for all that became durable together. */
  acknowledge(seq: number) {
    this.#parts.agents.acknowledge(this.#agent!.id, seq)
    if (this.#dueAck === 0) process.nextTick(() => this.#sendAck())
    this.#dueAck = seq
  }

  #sendAck() {
    const seq = this.#dueAck
    this.#dueAck = 0
    this.send({ type: 'ack', seq })
  }

  pause() {
    this.#valve.shut('disk')
  }

  resume() {
    this.#valve.open('disk')
  }

  missed(seq: number) {
    const message = `Message ${seq} has not arrived. Come back and send again what was not acknowledged.`
    this.#refuse('message_missing', message, true)
  }

  failed(error: unknown) {
    this.#context.log.error({ error, agent_id: this.#agent?.id }, 'a message of an agent could not be handled')
    this.#refuse('not_handled', 'The market could not keep that. Come back and send it again.', true)
  }
}

const notOfProtocol = 'That is not a message of the agent protocol.'
const helloOnce = 'The first message has to be hello, once.'

function parse(text: string | null): AgentMessage | null {
  if (text === null) return null
  try {
    const document: unknown = JSON.parse(text)
    const parsed = isTooDeep(document) ? null : compiled(AgentMessage).safeParse(document)
    return parsed?.success ? parsed.data : null
  } catch {
    return null
  }
}

function dispatch(message: Said, agent: AgentHere, { agents, scheduler }: ConversationParts): Promise<void> {
  const { reports } = scheduler
  switch (message.type) {
    case 'devices':
      return agents.devices(agent, message)
    case 'heartbeat':
      return agents.heartbeat(agent, message)
    case 'attempt.accepted':
      return reports.accepted(agent.id, message)
    case 'attempt.refused':
      return reports.refused(agent.id, message)
    case 'attempt.preparing':
      return reports.preparing(agent.id, message)
    case 'attempt.ready':
      return reports.ready(agent.id, message)
    case 'attempt.output':
      return reports.output(agent.id, message)
    case 'attempt.log':
      return reports.log(agent.id, message)
    case 'attempt.file':
      return reports.file(agent.id, message)
    case 'attempt.result':
      return reports.result(agent.id, message)
  }
}

/** What an agent says once it has been let in. */
type Said = Exclude<AgentMessage, { type: 'hello' }>
type InboxOwner = {
  handle(message: Said): Promise<void>
  acknowledge(seq: number): void
  pause(): void
  resume(): void
  /** The message with this number has got lost on its way. */
  missed(seq: number): void
  failed(error: unknown): void
}
/** A message that is not dealt with, or that waits for one before it. `work`: null once it is done. */
type Entry = { readonly seq: number | null; readonly characters: number; work: Promise<void> | null }

/**
 * Handles messages in order and acknowledges what is durable. A handler is called as soon as its message is here, so that one
 * commit holds many; an acknowledgement waits for all before it. Nothing is acknowledged across a gap: the agent would forget
 * what never arrived.
 */
class Inbox {
  readonly #owner: InboxOwner
  readonly #entries: Entry[] = []
  #lastSeq = 0
  #broken = false
  #paused = false
  #characters = 0

  constructor(owner: InboxOwner) {
    this.#owner = owner
  }

  startAt(seq: number) {
    this.#lastSeq = seq
  }

  /** `characters`: the message's, on the wire. */
  receive(message: Said, characters: number) {
    if (this.#broken) return
    const seq = 'seq' in message ? message.seq : null
    const lastSeq = this.#lastSeq
    if (seqBefore(message) > lastSeq) {
      this.#broken = true
      return this.#owner.missed(lastSeq + 1)
    }
    const entry: Entry = { seq, characters, work: null }
    this.#characters += characters
    this.#entries.push(entry)
    if (seq !== null && seq <= lastSeq) return this.#settle()
    if (seq !== null) this.#lastSeq = seq
    entry.work = this.#finish(message, entry)
    if (this.#isOver(1) && !this.#paused) {
      this.#paused = true
      this.#owner.pause()
    }
  }

  /** Resolves once everything that was received has been handled. */
  async finished(): Promise<void> {
    await Promise.all(this.#entries.flatMap(({ work }) => work ?? []))
  }

  async #finish(message: Said, entry: Entry) {
    try {
      await this.#owner.handle(message)
      entry.work = null
      this.#settle()
    } catch (error) {
      this.#broken = true
      this.#owner.failed(error)
    }
  }

  #settle() {
    let seq: number | null = null
    while (this.#entries[0]?.work === null) {
      const entry = this.#entries.shift()!
      this.#characters -= entry.characters
      seq = entry.seq ?? seq
    }
    // An array that once had members keeps room for them, and most agents say nothing most of the time: this lets go of it.
    if (this.#entries.length === 0) this.#entries.length = 0
    if (seq !== null && !this.#broken) this.#owner.acknowledge(seq)
    if (this.#paused && !this.#isOver(0.5)) {
      this.#paused = false
      this.#owner.resume()
    }
  }

  #isOver(share: number): boolean {
    return (
      this.#entries.length >= unfinishedMax.messages * share || this.#characters >= unfinishedMax.characters * share
    )
  }
}

/** The last number that the agent had given before it sent this. */
function seqBefore(message: Said): number {
  if ('seq' in message) return message.seq - 1
  return message.type === 'heartbeat' ? message.last_seq : 0
}
