import { generateKeyPairSync, type KeyObject, sign } from 'node:crypto'
import {
  type AgentMessage,
  agentProtocolVersion,
  agentSocketPath,
  type ReportedDevice,
  ServerMessage,
  type ServerMessageOf,
} from '@orbyte/protocol'
import { WebSocket } from 'ws'
import type { z } from 'zod'
import { reportedDevice } from '../gpus/fixture-gpus.ts'

export type DeviceWire = z.input<typeof ReportedDevice>
export type Start = ServerMessageOf<'attempt.start'>
export type HelloFields = Partial<Record<keyof Extract<AgentMessage, { type: 'hello' }>, unknown>>

/** A machine's key and what it counts: what stays when the agent reconnects. */
export type Machine = {
  publicKey: string
  privateKey: KeyObject
  token: string | null
  instance: string
  /** The last number that was given, and the last that was acknowledged. */
  seq: number
  acked: number
}

export function newMachine(token: string | null): Machine {
  const { publicKey, privateKey } = generateKeyPairSync('ed25519')
  const key = publicKey.export({ format: 'jwk' }).x!
  return { publicKey: key, privateKey, token, instance: `of-${key.slice(0, 20)}`, seq: 0, acked: 0 }
}

/** A device as an agent reports it on the wire; runs "other" tasks and text at 3.6 ORB an hour: a micro-ORB a millisecond. */
export function deviceWire(fields: Partial<DeviceWire> & { uuid: string }): DeviceWire {
  const { price_per_hour: _price, limits: _limits, ...device } = reportedDevice()
  const limits = { task_types: null, models: null, min_price_per_hour: null }
  const abilities = {
    task_types: ['other', 'text_generation', 'image_generation'] as const,
    model_formats: ['gguf', 'onnx'],
  }
  return { ...device, ...abilities, task_types: [...abilities.task_types], price_per_hour: '3.6', limits, ...fields }
}

export type ScriptedAgent = Awaited<ReturnType<typeof connectAgent>>

/**
 * The remote side of an agent's socket, one message at a time, as the test says. What the server sends waits in queues by type.
 * Everything that is reliable resolves with its acknowledgement: the server has it on disk then.
 */
export async function connectAgent(
  url: string,
  machine: Machine,
  { devices, hello = {} }: { devices: DeviceWire[]; hello?: HelloFields },
) {
  const line = openSocket(url, { onAcked: (seq) => (machine.acked = Math.max(machine.acked, seq)) })
  const { next, send } = line
  send(helloOf(machine, (await next('challenge')).nonce, { devices, ...hello }))
  const welcome = await next('welcome')
  let heartbeats = 0

  /** Sends it with the next `seq` and resolves once it is acknowledged. One that is not leaves its number to the next. */
  async function report(message: { type: string } & Record<string, unknown>): Promise<void> {
    const seq = ++machine.seq
    send({ ...message, seq })
    try {
      await line.acked(seq)
    } catch (error) {
      machine.seq = machine.acked
      throw error
    }
  }

  const ref = ({ attempt_id, fencing_token }: Pick<Start, 'attempt_id' | 'fencing_token'>) => ({
    attempt_id,
    fencing_token,
  })
  return {
    ...line,
    machine,
    devices,
    welcome,
    report,
    ref,
    id: welcome.agent_id,
    gpuId: welcome.gpus[0]?.gpu_id ?? '',
    accept: (start: Start) => report({ type: 'attempt.accepted', ...ref(start) }),
    refuse: (start: Start, code = 'busy') =>
      report({ type: 'attempt.refused', ...ref(start), code, message: 'Not now.' }),
    preparing: (start: Start, progress: string) => report({ type: 'attempt.preparing', ...ref(start), progress }),
    ready: (start: Start) => report({ type: 'attempt.ready', ...ref(start) }),
    output: (start: Start, ...[offset, text, run_ms = 0]: [offset: number, text: string, run_ms?: number]) =>
      report({ type: 'attempt.output', ...ref(start), offset, text, run_ms }),
    log: (start: Start, ...[offset, lines, run_ms = 0]: [offset: number, lines: string[], run_ms?: number]) =>
      report({ type: 'attempt.log', ...ref(start), offset, lines, run_ms }),
    result: (start: Start, fields: Record<string, unknown> = {}) => report(resultOf(ref(start), fields)),
    /** Accepts, and is ready at once. */
    async begin(): Promise<Start> {
      const start = await next('attempt.start')
      await report({ type: 'attempt.accepted', ...ref(start) })
      await report({ type: 'attempt.ready', ...ref(start) })
      return start
    },
    /** Resolves with the answer. */
    async heartbeat(attempts: { start: Start; run_ms: number }[] = []) {
      const id = heartbeats++
      const telemetry = { utilization_percent: 50, vram_used_gb: 1, temperature_celsius: 60, power_watts: 200 }
      const seen = devices.map(({ uuid }) => ({ uuid, telemetry }))
      send({
        type: 'heartbeat',
        id,
        devices: seen,
        attempts: attempts.map(({ start, run_ms }) => ({ ...ref(start), run_ms })),
      })
      return next('heartbeat.ack')
    },
  }
}

export function helloOf(machine: Machine, nonce: string, fields: HelloFields = {}): Record<string, unknown> {
  const signature = sign(null, Buffer.from(`orbyte-agent:${nonce}`), machine.privateKey).toString('base64url')
  return {
    type: 'hello',
    protocol_version: agentProtocolVersion,
    agent_version: '0.1.0',
    instance: machine.instance,
    acked_seq: machine.acked,
    public_key: machine.publicKey,
    signature,
    agent_token: machine.token,
    hostname: 'box',
    os: 'linux',
    region: null,
    devices: [],
    attempts: [],
    ...fields,
  }
}

function resultOf(ref: object, fields: Record<string, unknown>) {
  const completed = {
    outcome: 'completed',
    run_ms: 0,
    output_data: { done: true },
    code: 'completed',
    message: 'Done.',
    fault: null,
  }
  const failed = {
    outcome: 'failed',
    run_ms: 0,
    output_data: null,
    code: 'broken',
    message: 'It broke.',
    fault: 'provider',
  }
  return { type: 'attempt.result', ...ref, ...(fields.outcome === 'failed' ? failed : completed), ...fields }
}

export type Line = ReturnType<typeof openSocket>

type SocketOptions = { onAcked?: (seq: number) => void; headers?: Record<string, string> }

/** A socket to the agents' door, before anybody has said who it is. */
export function openSocket(url: string, { onAcked = () => {}, headers = {} }: SocketOptions = {}) {
  const socket = new WebSocket(`${url.replace('http', 'ws')}${agentSocketPath}`, { headers })
  const arrived: ServerMessage[] = []
  let lastAck = 0
  let unacknowledged: { seq: number; resolve: () => void; reject: (error: Error) => void }[] = []
  const acknowledged = (seq: number) => {
    onAcked(seq)
    lastAck = seq
    for (const { resolve } of unacknowledged.filter((one) => one.seq <= seq)) resolve()
    unacknowledged = unacknowledged.filter((one) => one.seq > seq)
  }
  const waiting: { type: string; take: (message: ServerMessage) => void; fail: (error: Error) => void }[] = []
  const closed = new Promise<number>((resolve) => socket.once('close', resolve))
  const ended = (code: number) => new Error(`the server has hung up (${code})`)
  socket.on('error', () => {})
  socket.on('message', (data) => {
    const message = ServerMessage.parse(JSON.parse((data as Buffer).toString()))
    if (message.type === 'ack') acknowledged(message.seq)
    if (message.type === 'welcome') acknowledged(message.acked_seq)
    const index = waiting.findIndex(({ type }) => type === message.type)
    if (index < 0) arrived.push(message)
    else waiting.splice(index, 1)[0]!.take(message)
  })
  void closed.then((code) => {
    for (const { fail } of waiting.splice(0)) fail(ended(code))
    for (const { reject } of unacknowledged.splice(0)) reject(ended(code))
  })
  return {
    /** Resolves with the close code once the socket is closed. */
    closed,
    isOpen: () => socket.readyState === socket.OPEN,
    /** The next message of this type that nobody has taken yet. */
    next<T extends ServerMessage['type']>(type: T): Promise<ServerMessageOf<T>> {
      const index = arrived.findIndex((message) => message.type === type)
      if (index >= 0) return Promise.resolve(arrived.splice(index, 1)[0] as ServerMessageOf<T>)
      if (socket.readyState >= socket.CLOSING) return Promise.reject(ended(0))
      return new Promise((take, fail) => waiting.push({ type, take: take as (message: ServerMessage) => void, fail }))
    },
    /** Resolves once everything up to `seq` is acknowledged; rejects if the server hangs up before. */
    acked(seq: number): Promise<void> {
      if (lastAck >= seq) return Promise.resolve()
      if (socket.readyState >= socket.CLOSING) return Promise.reject(ended(0))
      return new Promise((resolve, reject) => unacknowledged.push({ seq, resolve, reject }))
    },
    /** What has arrived and was not taken. */
    untaken: (type: ServerMessage['type']) => arrived.filter((message) => message.type === type),
    send: (message: object) => socket.send(JSON.stringify(message)),
    sendRaw: (data: string | Buffer) => socket.send(data),
    /** Gone without a word, as when the cable is pulled. */
    disconnect() {
      socket.terminate()
      return closed
    },
  }
}
