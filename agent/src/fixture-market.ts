import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import {
  AgentMessage,
  type AgentMessageOf,
  agentProtocolVersion,
  agentSocketPath,
  makeId,
  type ServerMessage,
} from '@orbyte/protocol'
import { type WebSocket, WebSocketServer } from 'ws'

type MessageType = AgentMessage['type']
type WireServerMessage = Omit<ServerMessage, 'gpus'> & Record<string, unknown>

/** The other end of an agent's socket, for tests: says what a test tells it to, and keeps what the agent said. */
export type FixtureMarket = {
  readonly url: string
  /** Everything that agents said, over all connections; none of it breaks the contract. */
  readonly heard: AgentMessage[]
  /** What each attempt of a hello is to do. Default: keep. */
  onHello: (hello: AgentMessageOf<'hello'>) => Record<string, unknown> | 'silence'
  /** Whether reliable messages are acknowledged as they come, and heartbeats answered. */
  acknowledges: boolean
  answersHeartbeats: boolean
  /** The next message of this type that no earlier call has returned. */
  next<T extends MessageType>(type: T): Promise<AgentMessageOf<T>>
  /** Everything of this type so far. */
  all<T extends MessageType>(type: T): AgentMessageOf<T>[]
  send(message: WireServerMessage): void
  sendRaw(data: string | Buffer): void
  /** Breaks the agent's connection. */
  hangUp(): void
  connections(): number
  close(): Promise<void>
}

export const newId = (kind: 'task' | 'attempt' | 'gpu' | 'agent') => makeId(kind, 1_700_000_000_000, randomBytes(10))

export async function startMarket(): Promise<FixtureMarket> {
  const server = new WebSocketServer({ port: 0, host: '127.0.0.1', path: agentSocketPath })
  await once(server, 'listening')
  let socket: WebSocket | null = null
  let connections = 0
  const changed: (() => void)[] = []
  const taken = new Set<AgentMessage>()
  const market: FixtureMarket = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    heard: [],
    onHello: () => ({}),
    acknowledges: true,
    answersHeartbeats: true,
    async next(type) {
      while (true) {
        const found = market.heard.find((message) => message.type === type && !taken.has(message))
        if (found !== undefined) {
          taken.add(found)
          return found as AgentMessageOf<typeof type>
        }
        await new Promise<void>((resolve) => changed.push(resolve))
      }
    },
    all: (type) => market.heard.filter((message) => message.type === type) as AgentMessageOf<typeof type>[],
    send: (message) => socket!.send(JSON.stringify(message)),
    sendRaw: (data) => socket!.send(data),
    hangUp: () => socket!.terminate(),
    connections: () => connections,
    async close() {
      for (const client of server.clients) client.terminate()
      await new Promise((resolve) => server.close(resolve))
    },
  }

  server.on('connection', (opened) => {
    socket = opened
    connections++
    opened.on('message', (data) => {
      const message = AgentMessage.parse(JSON.parse(String(data)))
      market.heard.push(message)
      answer(market, message)
      for (const resolve of changed.splice(0)) resolve()
    })
    market.send({ type: 'challenge', protocol_version: agentProtocolVersion, nonce: 'nonce' })
  })
  return market
}

function answer(market: FixtureMarket, message: AgentMessage): void {
  if (message.type === 'hello') {
    const changes = market.onHello(message)
    if (changes !== 'silence') market.send({ ...welcomeTo(message), ...changes } as WireServerMessage)
  } else if (message.type === 'heartbeat') {
    if (!market.answersHeartbeats) return
    const attempts = message.attempts.map(({ run_ms: _, ...attempt }) => ({ ...attempt, deadline_in_ms: 80_000 }))
    market.send({ type: 'heartbeat.ack', id: message.id, attempts })
  } else if (market.acknowledges) {
    market.send({ type: 'ack', seq: message.seq })
  }
}

function welcomeTo({ devices, attempts }: AgentMessageOf<'hello'>): Record<string, unknown> {
  return {
    type: 'welcome',
    agent_id: newId('agent'),
    heartbeat_ms: 5_000,
    gpus: devices.map(({ uuid, model }) => {
      return { uuid, gpu_id: newId('gpu'), name: `the ${model}`, price_per_hour: '0.5', maintenance: false }
    }),
    refused_devices: [],
    attempts: attempts.map(({ attempt_id, fencing_token }) => {
      return { attempt_id, fencing_token, action: 'keep', deadline_in_ms: 80_000 }
    }),
    acked_seq: 0,
  }
}
