import type { Clock } from '../context.ts'

const none: readonly never[] = []

/** The part of a socket that can be read from, or not. */
export type Readable = { pause(): void; resume(): void }

/** Reads from a socket unless there is a reason not to; there may be several at once. */
export class Valve {
  readonly #socket: Readable
  #reasons: readonly string[] = none

  constructor(socket: Readable) {
    this.#socket = socket
  }

  shut(reason: string) {
    if (this.#reasons.includes(reason)) return
    if (this.#reasons.length === 0) this.#socket.pause()
    this.#reasons = [...this.#reasons, reason]
  }

  open(reason: string) {
    if (!this.#reasons.includes(reason)) return
    this.#reasons = this.#reasons.length === 1 ? none : this.#reasons.filter((other) => other !== reason)
    if (this.#reasons.length === 0) this.#socket.resume()
  }
}

/** Seconds' worth of messages that may come at once. */
const burstSeconds = 10

/**
 * Lets `perSecond` messages through on average (a token bucket). Who sends more is read more slowly, and waits: nothing is lost,
 * and nobody else waits with them. 0: as many as come.
 */
export class Throttle {
  readonly #clock: Clock
  readonly #valve: Valve
  readonly #perSecond: number
  #tokens: number
  #filledMs: number
  #cancel: (() => void) | null = null

  constructor(clock: Clock, valve: Valve, perSecond: number) {
    this.#clock = clock
    this.#valve = valve
    this.#perSecond = perSecond
    this.#tokens = perSecond * burstSeconds
    this.#filledMs = clock.now()
  }

  /** A message has arrived. */
  count() {
    const perSecond = this.#perSecond
    if (perSecond === 0) return
    const nowMs = this.#clock.now()
    const filled = this.#tokens + ((nowMs - this.#filledMs) * perSecond) / 1_000
    this.#tokens = Math.min(perSecond * burstSeconds, filled) - 1
    this.#filledMs = nowMs
    if (this.#tokens >= 0) return
    this.#valve.shut('throttle')
    this.stop()
    this.#cancel = this.#clock.after(Math.ceil((-this.#tokens / perSecond) * 1_000), () => this.#valve.open('throttle'))
  }

  stop() {
    this.#cancel?.()
  }
}
