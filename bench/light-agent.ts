import { generateKeyPairSync, type KeyObject, randomBytes, sign } from 'node:crypto'
import { reconnectDelayMs } from '@orbyte/agent/connection/backoff.ts'
import { agentProtocolVersion, agentSocketPath, type ServerMessage } from '@orbyte/protocol'
import { WebSocket } from 'ws'

/**
 * The remote side of the agent protocol with nothing behind it: one emulated GPU that accepts each attempt, is ready, and
 * completes it a millisecond after the market has acknowledged that. That is the shortest run that is sure to cost something,
 * because the market charges no more than it saw pass between the two. It speaks over a real WebSocket with a real key, beats as
 * often as it is told to, and comes back like a real agent when the connection is lost.
 */
export type LightAgent = {
  /** Connects, and connects again, until it is closed. */
  open(): void
  close(): void
}

export type LightAgentOptions = {
  url: string
  number: number
  /** Enrols it, the first time. */
  token: string
  /** Where it comes from: machines do not share an address. */
  localAddress: string
  /** An attempt has arrived; `sentMs`: what its input says of when it was submitted. */
  onStart(sentMs: number): void
  /** The market has acknowledged its result: it is settled. */
  onSettled(sentMs: number): void
  /** It has been let in. */
  onWelcome(): void
  /** It was let in, and is not connected any more. */
  onLost(): void
}

const runMs = 1
const chance = { bytes: (count: number) => randomBytes(count) }
type Machine = { publicKey: string; privateKey: KeyObject }
type Start = Extract<ServerMessage, { type: 'attempt.start' }>

export function createLightAgent(options: LightAgentOptions): LightAgent {
  const { privateKey, publicKey } = generateKeyPairSync('ed25519')
  const machine: Machine = { privateKey, publicKey: publicKey.export({ format: 'jwk' }).x! }
  const address = `${options.url.replace('http', 'ws')}${agentSocketPath}`
  let socket: WebSocket
  let closed = false
  let tries = 0
  let seq = 0
  let ackedSeq = 0
  let heartbeats = 0
  const unacknowledged: { seq: number; run: () => void }[] = []
  /** Until their result is acknowledged. */
  const attempts = new Set<{ attempt_id: string; fencing_token: string; run_ms: number }>()

  function open() {
    let beat: NodeJS.Timeout | undefined
    let isIn = false
    const { localAddress } = options
    socket = new WebSocket(address, { perMessageDeflate: false, skipUTF8Validation: true, localAddress })
    socket.on('message', (data) => {
      const message = JSON.parse((data as Buffer).toString()) as ServerMessage
      if (message.type === 'ack') return acknowledged(message.seq)
      if (message.type === 'attempt.start') return take(message)
      if (message.type === 'challenge') return say(JSON.stringify(helloOf(message.nonce)))
      if (message.type !== 'welcome') return
      isIn = true
      tries = 0
      acknowledged(message.acked_seq)
      // Not all at once, as the machines of a market do not begin at the same moment.
      const { heartbeat_ms } = message
      beat = setTimeout(() => (beat = setInterval(heartbeat, heartbeat_ms)), Math.random() * heartbeat_ms)
      options.onWelcome()
    })
    socket.on('error', () => {})
    socket.on('close', () => {
      clearInterval(beat)
      if (isIn) options.onLost()
      if (!closed) setTimeout(() => !closed && open(), reconnectDelayMs(tries++, chance))
    })
  }

  function take({ attempt_id, fencing_token, input }: Start) {
    const about = `"attempt_id":"${attempt_id}","fencing_token":"${fencing_token}"`
    const sentMs = Number(input.sent_ms ?? 0)
    const attempt = { attempt_id, fencing_token, run_ms: 0 }
    attempts.add(attempt)
    options.onStart(sentMs)
    say(`{"type":"attempt.accepted","seq":${++seq},${about}}`)
    say(`{"type":"attempt.ready","seq":${++seq},${about}}`)
    whenAcknowledged(seq, () =>
      later(() => {
        say(
          `{"type":"attempt.result","seq":${++seq},${about},"outcome":"completed","run_ms":${runMs},"output_data":{"done":true},"code":"completed","message":"Done.","fault":null}`,
        )
        whenAcknowledged(seq, () => {
          attempts.delete(attempt)
          options.onSettled(sentMs)
        })
      }),
    )
  }

  /** In the order of `seq`. */
  function whenAcknowledged(seq: number, run: () => void) {
    unacknowledged.push({ seq, run })
  }

  function say(message: string) {
    if (socket.readyState === socket.OPEN) socket.send(message)
  }

  function acknowledged(upTo: number) {
    ackedSeq = Math.max(ackedSeq, upTo)
    while (unacknowledged.length > 0 && unacknowledged[0]!.seq <= upTo) unacknowledged.shift()!.run()
  }

  function heartbeat() {
    const telemetry = { utilization_percent: 50, vram_used_gb: 1, temperature_celsius: 60, power_watts: 200 }
    const devices = [{ uuid: uuidOf(options.number), telemetry }]
    say(JSON.stringify({ type: 'heartbeat', id: heartbeats++, last_seq: seq, devices, attempts: [...attempts] }))
  }

  const helloOf = (nonce: string) => ({
    type: 'hello',
    protocol_version: agentProtocolVersion,
    agent_version: '0.1.0',
    instance: `bench-${options.number}`,
    public_key: machine.publicKey,
    signature: sign(null, Buffer.from(`orbyte-agent:${nonce}`), machine.privateKey).toString('base64url'),
    agent_token: options.token,
    acked_seq: ackedSeq,
    hostname: `machine-${options.number}`,
    os: 'linux',
    region: null,
    devices: [deviceOf(options.number)],
    attempts: [...attempts].map((attempt) => ({ ...attempt, status: 'ended' })),
  })

  return {
    open,
    close() {
      closed = true
      socket.terminate()
    },
  }
}

const uuidOf = (number: number) => `EMULATED-bench-${number}`

function deviceOf(number: number) {
  return {
    uuid: uuidOf(number),
    index: 0,
    kind: 'emulated',
    model: 'Emulated RTX 4090',
    vram_mib: 24_564,
    specs: {
      driver: '550.54',
      compute_capability: '8.9',
      os: 'linux',
      cpu_model: 'AMD EPYC 7763',
      cpu_cores: 64,
      ram_gb: 256,
      storage_gb: 1_000,
    },
    task_types: ['other'],
    model_formats: [],
    own_models: [],
    loaded_models: [],
    cached_models: [],
    paused: false,
    price_per_hour: '3.6',
    name: null,
    limits: { task_types: null, models: null, min_price_per_hour: null },
  }
}

const due: { atMs: number; run: () => void }[] = []
let isArmed = false

/** Runs it when `runMs` have passed: one timer for all, because there are thousands a second. */
function later(run: () => void) {
  due.push({ atMs: performance.now() + runMs, run })
  arm()
}

function arm() {
  if (isArmed || due.length === 0) return
  isArmed = true
  setTimeout(() => {
    isArmed = false
    const nowMs = performance.now()
    while (due.length > 0 && due[0]!.atMs <= nowMs) due.shift()!.run()
    arm()
  }, 1)
}
