import { AgentMessage, agentProtocolVersion, isTooDeep, ServerMessage, wireEncoder } from '@orbyte/protocol'
import type { Context } from '../context.ts'
import type { Scheduler } from '../scheduler/scheduler-service.ts'
import type { Connection } from './agent-connections.ts'
import { createThrottle, createValve } from './agent-intake.ts'
import type { AgentService } from './agent-service.ts'
import type { StoredAgent } from './agent-store.ts'

/** What the dialogue needs of a WebSocket, so that the simulation can bring another. */
export type AgentSocket = {
  isOpen(): boolean
  /** What is written and has not left yet. */
  bufferedBytes(): number
  send(text: string): void
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
  /** Whether it is known who speaks. */
  isLetIn(): boolean
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
  const { agents } = parts
  const nonce = Buffer.from(context.random.bytes(24)).toString('base64url')
  const connection: Connection = {
    send(message) {
      if (!socket.isOpen()) return false
      if (socket.bufferedBytes() > bufferedBytesMax) socket.terminate()
      else socket.send(JSON.stringify(encodeMessage(message)))
      return true
    },
    close() {
      hungUp = true
      socket.close(1000)
    },
    finished: () => inbox.finished(),
  }
  let hungUp = false
  let agent: StoredAgent | null = null
  let greeting = false
  const valve = createValve(socket)
  const throttle = createThrottle(context.clock, valve, context.config.limits.agentMessagesPerSecondMax)
  const noHello = context.clock.after(helloMs, () => refuse('no_hello', 'The agent did not say hello in time.', true))

  function refuse(code: string, message: string, retry: boolean) {
    connection.send({ type: 'refused', code, message, retry })
    hungUp = true
    socket.close(1008)
    if (agent) agents.disconnected(agent.id, connection)
  }

  async function greet(hello: Extract<AgentMessage, { type: 'hello' }>) {
    greeting = true
    noHello()
    const found = await agents.identify(hello, nonce)
    if ('type' in found) return refuse(found.code, found.message, found.retry)
    await agents.welcome(found, hello, connection)
    agent = found
    // A market that was restarted has acknowledged nothing, and the one before it has.
    inbox.startAt(Math.max(agents.ackedSeq(found.id), hello.acked_seq))
    // It may have gone while it was let in.
    if (!socket.isOpen()) return agents.disconnected(found.id, connection)
    valve.open('hello')
  }

  const inbox = createInbox({
    handle: (message) => dispatch(message, agent!, parts),
    acknowledge(seq) {
      agents.acknowledge(agent!.id, seq)
      connection.send({ type: 'ack', seq })
    },
    pause: () => valve.shut('disk'),
    resume: () => valve.open('disk'),
    missed(seq) {
      refuse(
        'message_missing',
        `Message ${seq} has not arrived. Come back and send again what was not acknowledged.`,
        true,
      )
    },
    failed(error) {
      context.log.error({ error, agent_id: agent?.id }, 'a message of an agent could not be handled')
      refuse('not_handled', 'The market could not keep that. Come back and send it again.', true)
    },
  })

  connection.send({ type: 'challenge', protocol_version: agentProtocolVersion, nonce })
  return {
    received(text) {
      if (hungUp) return
      const tooLong = agent === null && text !== null && text.length > helloCharactersMax
      const message = text === null || tooLong ? null : parse(text)
      if (!message) return refuse('invalid_message', 'That is not a message of the agent protocol.', true)
      if (agent && message.type !== 'hello') {
        agents.heard(agent.id)
        throttle.count()
        return inbox.receive(message, text!.length)
      }
      if (greeting || message.type !== 'hello')
        return refuse('hello_expected', 'The first message has to be hello, once.', true)
      // Nothing more is read until the hello has been dealt with.
      valve.shut('hello')
      greet(message).catch((error: unknown) => {
        context.log.error({ error }, 'an agent could not be let in')
        refuse('not_handled', 'The market could not let the agent in. Come back later.', true)
      })
    },
    closed() {
      noHello()
      throttle.stop()
      if (agent) agents.disconnected(agent.id, connection)
    },
    isLetIn: () => agent !== null,
  }
}

function parse(text: string): AgentMessage | null {
  try {
    const document: unknown = JSON.parse(text)
    const parsed = isTooDeep(document) ? null : AgentMessage.safeParse(document)
    return parsed?.success ? parsed.data : null
  } catch {
    return null
  }
}

function dispatch(message: Said, agent: StoredAgent, { agents, scheduler }: ConversationParts): Promise<void> {
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
type Inbox = {
  handle: (message: Said) => Promise<void>
  acknowledge: (seq: number) => void
  pause: () => void
  resume: () => void
  /** The message with this number has got lost on its way. */
  missed: (seq: number) => void
  failed: (error: unknown) => void
}

/**
 * Handles messages in order and acknowledges what is durable. A handler is called as soon as its message is here, so that one
 * commit holds many; an acknowledgement waits for all before it. Nothing is acknowledged across a gap: the agent would forget
 * what never arrived.
 */
function createInbox({ handle, acknowledge, pause, resume, missed, failed }: Inbox) {
  const unfinished: { seq: number | null; done: boolean; characters: number }[] = []
  const onTheirWay = new Set<Promise<void>>()
  let lastSeq = 0
  let broken = false
  let paused = false
  let characters = 0

  const isOver = (share: number) =>
    unfinished.length >= unfinishedMax.messages * share || characters >= unfinishedMax.characters * share

  function settle() {
    let seq: number | null = null
    while (unfinished[0]?.done) {
      const entry = unfinished.shift()!
      characters -= entry.characters
      seq = entry.seq ?? seq
    }
    if (seq !== null && !broken) acknowledge(seq)
    if (paused && !isOver(0.5)) {
      paused = false
      resume()
    }
  }

  async function finish(message: Said, entry: { done: boolean }) {
    try {
      await handle(message)
      entry.done = true
      settle()
    } catch (error) {
      broken = true
      failed(error)
    }
  }

  return {
    startAt: (seq: number) => (lastSeq = seq),
    /** `size`: the message's characters on the wire. */
    receive(message: Said, size: number) {
      if (broken) return
      const seq = 'seq' in message ? message.seq : null
      if (seqBefore(message) > lastSeq) {
        broken = true
        return missed(lastSeq + 1)
      }
      const entry = { seq, done: seq !== null && seq <= lastSeq, characters: size }
      characters += size
      unfinished.push(entry)
      if (entry.done) return settle()
      if (seq !== null) lastSeq = seq
      const work: Promise<void> = finish(message, entry).finally(() => onTheirWay.delete(work))
      onTheirWay.add(work)
      if (isOver(1) && !paused) {
        paused = true
        pause()
      }
    },
    /** Resolves once everything that was received has been handled. */
    finished: async () => void (await Promise.all(onTheirWay)),
  }
}

/** The last number that the agent had given before it sent this. */
function seqBefore(message: Said): number {
  if ('seq' in message) return message.seq - 1
  return message.type === 'heartbeat' ? message.last_seq : 0
}
