import { randomBytes } from 'node:crypto'
import { reconnectDelayMs } from '@orbyte/agent/connection/backoff.ts'
import { agentSocketPath, type ServerMessage } from '@orbyte/protocol'
import { deviceWire, helloOf, newMachine } from '@orbyte/server/agents/fixture-agent.ts'
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
type Start = Extract<ServerMessage, { type: 'attempt.start' }>

export function createLightAgent(options: LightAgentOptions): LightAgent {
  const machine = newMachine(options.token)
  const common = deviceWire({
    ...{ uuid: `EMULATED-bench-${options.number}`, kind: 'emulated', model: 'Emulated RTX 4090' },
    ...{ task_types: ['other'], model_formats: [] },
  })
  // No two machines have as much space left.
  const device = { ...common, specs: { ...common.specs, storage_gb: 100 + options.number / 10 } }
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
      if (message.type === 'challenge') return say(JSON.stringify(hello(message.nonce)))
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
    const devices = [{ uuid: device.uuid, telemetry }]
    say(JSON.stringify({ type: 'heartbeat', id: heartbeats++, last_seq: seq, devices, attempts: [...attempts] }))
  }

  const hello = (nonce: string) =>
    helloOf({ ...machine, seq, acked: ackedSeq }, nonce, {
      hostname: `machine-${options.number}`,
      devices: [device],
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
