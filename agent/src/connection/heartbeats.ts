import type { ServerMessageOf, Telemetry } from '@orbyte/protocol'
import { elapsedMsAtLeast, type Moment, momentNow, type MonotonicClock } from '../clock.ts'
import type { WireMessageOf } from './wire-messages.ts'

type Heartbeat = WireMessageOf<'heartbeat'>

export type HeartbeatsOptions = {
  readonly clock: MonotonicClock
  attempts(): Heartbeat['attempts']
  /** May be slow, or never answer: a heartbeat does not wait for it, and carries what was known last. */
  telemetry(): Promise<Map<string, Telemetry>>
  /** The number of the last reliable message. */
  lastSeq(): number
  send(heartbeat: Heartbeat): void
  /** Several heartbeats had no answer. */
  onSilence(): void
}

/** A heartbeat that the server has answered. */
export type AnsweredHeartbeat = {
  readonly sentAt: Moment
  /** Ids of the attempts that it named. */
  readonly attemptIds: ReadonlySet<string>
}

/** So many heartbeats without an answer, and the connection is taken for dead. */
const unansweredMax = 3
/** How often it speaks while something runs: a task that is cancelled is charged up to the last time. */
const runningMs = 1_000

/** Says that the agent lives, in step, for as long as a connection is open. */
export class Heartbeats {
  readonly #options: HeartbeatsOptions
  readonly #unanswered = new Map<number, AnsweredHeartbeat>()
  #nextId = 0
  #stopped = new AbortController()
  #telemetry: Heartbeat['devices'] = []
  #isSampling = false

  constructor(options: HeartbeatsOptions) {
    this.#options = options
  }

  start(heartbeatMs: number): void {
    this.stop()
    this.#stopped = new AbortController()
    void this.#beat(heartbeatMs, this.#stopped.signal)
  }

  stop(): void {
    this.#stopped.abort()
    this.#unanswered.clear()
  }

  /** Null: an answer to no heartbeat of this connection. */
  answered({ id }: ServerMessageOf<'heartbeat.ack'>): AnsweredHeartbeat | null {
    const heartbeat = this.#unanswered.get(id) ?? null
    for (const earlier of [...this.#unanswered.keys()]) if (earlier <= id) this.#unanswered.delete(earlier)
    return heartbeat
  }

  async #beat(heartbeatMs: number, stopped: AbortSignal): Promise<void> {
    const { clock } = this.#options
    let sentAt: Moment | null = null
    while (!stopped.aborted) {
      const [oldest] = this.#unanswered.values()
      const silentMs = oldest === undefined ? 0 : elapsedMsAtLeast(clock, oldest.sentAt)
      if (this.#unanswered.size >= unansweredMax && silentMs >= unansweredMax * heartbeatMs) {
        return this.#options.onSilence()
      }
      const isDue = sentAt === null || elapsedMsAtLeast(clock, sentAt) >= heartbeatMs
      if (isDue || this.#options.attempts().length > 0) {
        this.#sendOne()
        sentAt = momentNow(clock)
      }
      await clock.sleep(Math.min(heartbeatMs, runningMs), stopped).catch(() => {})
    }
  }

  #sendOne(): void {
    void this.#sample()
    const id = this.#nextId++
    const attempts = this.#options.attempts()
    const attemptIds = new Set(attempts.map(({ attempt_id }) => attempt_id))
    this.#unanswered.set(id, { sentAt: momentNow(this.#options.clock), attemptIds })
    this.#options.send({ type: 'heartbeat', id, last_seq: this.#options.lastSeq(), devices: this.#telemetry, attempts })
  }

  async #sample(): Promise<void> {
    if (this.#isSampling) return
    this.#isSampling = true
    const sampled = await this.#options.telemetry().catch(() => null)
    this.#isSampling = false
    if (sampled !== null) this.#telemetry = [...sampled].map(([uuid, telemetry]) => ({ uuid, telemetry }))
  }
}
