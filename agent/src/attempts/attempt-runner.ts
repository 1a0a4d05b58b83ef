import { type Micros, type ServerMessageOf, wholeMilli } from '@orbyte/protocol'
import type { OwnerLimits } from '../agent-config.ts'
import { elapsedMsAtLeast, type Moment } from '../clock.ts'
import type { AnsweredHeartbeat } from '../connection/heartbeats.ts'
import type { Outbox } from '../connection/outbox.ts'
import type { HeldAttempt, ReliableMessage } from '../connection/wire-messages.ts'
import { type ExecutorDevice, useOf } from '../executors/executor.ts'
import type { Outside } from '../outside.ts'
import type { Abilities } from './abilities.ts'
import { type AttemptStart, refusalOf } from './admission.ts'
import { Attempt, type AttemptEnd } from './attempt.ts'
import type { ModelMemory } from './model-memory.ts'
import type { AttemptName, KeptAttempt, ResultJournal } from './result-journal.ts'

export type AttemptRunnerOptions = {
  readonly outside: Pick<Outside, 'clock' | 'log' | 'models'>
  readonly limits: OwnerLimits
  readonly abilities: Abilities
  readonly memory: ModelMemory
  readonly outbox: Outbox
  readonly journal: ResultJournal
  /** Null: it is not here (any more). */
  deviceOf(uuid: string): RunnableDevice | null
  /** A device was taken or freed, or holds another model. */
  onChange(): void
}

export type RunnableDevice = {
  readonly device: Pick<ExecutorDevice, 'uuid' | 'kind' | 'index'>
  readonly isPaused: boolean
  readonly priceMicrosPerHour: Micros | null
}

type Deadlines = ServerMessageOf<'heartbeat.ack'>['attempts']

/** Ids of ended attempts that are remembered, so that a start which comes twice runs once. */
const endedIdsMax = 1_000

/** All attempts of this machine: takes or refuses them, runs them, and keeps what the server has not acknowledged. */
export class AttemptRunner {
  readonly #options: AttemptRunnerOptions
  readonly #attempts = new Map<string, Attempt>()
  /** Those whose executors still hold devices, which may be after their end. */
  readonly #holding = new Set<Attempt>()
  /** Ended, and the server does not know it for sure. */
  readonly #kept = new Map<string, HeldAttempt>()
  readonly #endedIds = new Set<string>()
  #isStopping = false
  #idle: (() => void)[] = []

  constructor(options: AttemptRunnerOptions) {
    this.#options = options
  }

  /** What the last agent process left is told as if it had ended now. */
  restore(kept: readonly KeptAttempt[]): void {
    for (const { attempt_id, fencing_token, run_ms, messages } of kept) {
      const name = { attempt_id, fencing_token }
      this.#keep(name, run_ms)
      for (const message of messages) this.#deliver(name, message)
    }
  }

  start(start: AttemptStart, since: Moment): void {
    const { attempt_id, fencing_token } = start
    if (this.#attempts.has(attempt_id) || this.#endedIds.has(attempt_id)) return
    const { abilities, limits, outside, outbox, journal, memory } = this.#options
    const found = start.devices.flatMap(({ uuid }) => this.#options.deviceOf(uuid) ?? [])
    const devices = found.map(({ device }, index) => executorDevice(device, start.devices[index]!))
    const use = useOf(devices)
    const wanted = { devices, taskType: start.task_type, model: start.model, input: start.input, use }
    const executor = abilities.executorFor(wanted)
    const refusal = refusalOf(start, {
      isStopping: this.#isStopping,
      areDevicesHere: found.length === start.devices.length,
      isDeviceBusy: devices.some(({ uuid, milli }) => this.#heldMilli(uuid) + milli > wholeMilli),
      isDevicePaused: found.some(({ isPaused }) => isPaused),
      priceMicrosPerHour: leastOf(found),
      use,
      executor,
      remainingMs: start.deadline_in_ms - elapsedMsAtLeast(outside.clock, since),
      nowMs: outside.clock.now(),
      limits,
    })
    if (refusal !== null || executor === null) {
      outside.log.info(`Refused ${attempt_id}: ${refusal?.message}`)
      outbox.add({ type: 'attempt.refused', attempt_id, fencing_token, code: 'unsupported', message: '', ...refusal })
      return
    }
    const { clock, models } = outside
    const send = (message: ReliableMessage) => outbox.add(message)
    const attempt = new Attempt({ start, devices, executor, models, clock, since, send })
    this.#attempts.set(attempt_id, attempt)
    this.#holding.add(attempt)
    journal.started(attempt.name)
    outbox.add({ type: 'attempt.accepted', ...attempt.name })
    if (start.model !== null) for (const { uuid } of devices) memory.unloaded(uuid)
    void this.#run(attempt)
    this.#options.onChange()
  }

  /** The server stops an attempt: cancelled, reclaimed or fenced off. */
  stop({ attempt_id, fencing_token, reason }: ServerMessageOf<'attempt.stop'>): void {
    const attempt = this.#attempts.get(attempt_id)
    if (attempt?.name.fencing_token === fencing_token) attempt.stop(stoppedBy(reason))
  }

  /** Renews what the answer names, and stops what it no longer does. */
  heartbeatAnswered(heartbeat: AnsweredHeartbeat, deadlines: Deadlines): void {
    for (const attempt of this.#attempts.values()) {
      const { attempt_id, fencing_token } = attempt.name
      const deadline = deadlines.find((one) => one.attempt_id === attempt_id && one.fencing_token === fencing_token)
      if (deadline !== undefined) attempt.renew(heartbeat.sentAt, deadline.deadline_in_ms)
      else if (heartbeat.attemptIds.has(attempt_id)) attempt.stop(stoppedBy('The market has given it to another GPU.'))
    }
  }

  /** The hello named all that runs: what the welcome does not keep is stopped. */
  welcomed(welcome: ServerMessageOf<'welcome'>, helloSentAt: Moment): void {
    const kept = welcome.attempts.filter(({ action }) => action === 'keep')
    this.heartbeatAnswered({ sentAt: helloSentAt, attemptIds: new Set(this.#attempts.keys()) }, kept)
  }

  /** For the hello: what runs, and what has ended and may be news. */
  held(): HeldAttempt[] {
    return [...[...this.#attempts.values()].map((attempt) => attempt.held()), ...this.#kept.values()].slice(0, 256)
  }

  running(): { attempt_id: string; fencing_token: string; run_ms: number }[] {
    return [...this.#attempts.values()].map((attempt) => ({ ...attempt.name, run_ms: attempt.runMs() })).slice(0, 256)
  }

  resultsWaiting(): number {
    return this.#kept.size
  }

  runningOn(deviceUuid: string): Attempt[] {
    return [...this.#attempts.values()].filter(({ devices }) => devices.some(({ uuid }) => uuid === deviceUuid))
  }

  #heldMilli(deviceUuid: string): number {
    const held = [...this.#holding].flatMap(({ devices }) => devices.filter(({ uuid }) => uuid === deviceUuid))
    return held.reduce((sum, { milli }) => sum + milli, 0)
  }

  /** From now on nothing new is taken. */
  refuseNew(): void {
    this.#isStopping = true
  }

  /** Stops what runs, all of it or what has any of some devices. Resolves when all of it has ended. */
  async stopAll(end: AttemptEnd, isMeant: (deviceUuid: string) => boolean = () => true): Promise<void> {
    const meant = () => [...this.#attempts.values()].filter(({ devices }) => devices.some(({ uuid }) => isMeant(uuid)))
    for (const attempt of meant()) attempt.stop(end)
    while (meant().length > 0) await this.#oneEnded()
  }

  /** Frees what is kept warm on those of the devices where nothing runs. */
  async free(deviceUuids: readonly string[]): Promise<void> {
    const { abilities, memory } = this.#options
    const idle = deviceUuids.filter((uuid) => this.runningOn(uuid).length === 0)
    for (const uuid of idle) memory.unloaded(uuid)
    await Promise.all(idle.map((uuid) => abilities.free(uuid)))
  }

  /** Resolves when nothing runs. */
  async idle(): Promise<void> {
    while (this.#attempts.size > 0) await this.#oneEnded()
  }

  async #oneEnded(): Promise<void> {
    await new Promise<void>((resolve) => this.#idle.push(resolve))
  }

  async #run(attempt: Attempt): Promise<void> {
    void attempt.released.then(() => {
      this.#holding.delete(attempt)
      this.#options.onChange()
    })
    const end = await attempt.run()
    const { name, start, devices } = attempt
    // Only the engine of a whole GPU is kept warm.
    if (start.model !== null && end.outcome === 'completed' && useOf(devices) === 'whole')
      this.#options.memory.ran(devices[0]!.uuid, start.model.name)
    this.#options.outside.log.info(`${name.attempt_id} ended: ${end.code}, ${attempt.runMs()} ms.`)
    this.#attempts.delete(name.attempt_id)
    this.#ended(name, attempt.runMs(), end)
    for (const resolve of this.#idle.splice(0)) resolve()
    this.#options.onChange()
  }

  #ended(name: AttemptName, runMs: number, end: AttemptEnd): void {
    const { outbox, journal } = this.#options
    // After its deadline it is not the agent's to speak of: only how it ended is told.
    if (end.code === 'deadline_passed') outbox.dropUnsent(({ attemptId }) => attemptId === name.attempt_id)
    this.#keep(name, runMs)
    this.#deliver(name, { type: 'attempt.result', ...name, run_ms: runMs, ...end })
    journal.ended({ ...name, run_ms: runMs }, outbox.unacknowledgedOf(name.attempt_id))
  }

  #keep(name: AttemptName, runMs: number): void {
    this.#kept.set(name.attempt_id, { ...name, status: 'ended', run_ms: runMs })
    this.#endedIds.add(name.attempt_id)
    if (this.#endedIds.size > endedIdsMax) this.#endedIds.delete([...this.#endedIds][0]!)
  }

  #deliver(name: AttemptName, message: ReliableMessage): void {
    if (message.type !== 'attempt.result') return void this.#options.outbox.add(message)
    this.#options.outbox.add(message, () => {
      this.#kept.delete(name.attempt_id)
      this.#options.journal.forget(name.attempt_id)
    })
  }
}

function stoppedBy(reason: string): AttemptEnd {
  return { outcome: 'stopped', output_data: null, code: 'stopped', message: reason.slice(0, 2_000), fault: null }
}

function executorDevice(
  { uuid, kind, index }: RunnableDevice['device'],
  { milli, vram_mib: vramMib }: AttemptStart['devices'][number],
): ExecutorDevice {
  return { uuid, kind, index, milli, vramMib }
}

function leastOf(devices: readonly RunnableDevice[]): Micros | null {
  const prices = devices.flatMap(({ priceMicrosPerHour }) => priceMicrosPerHour ?? [])
  return prices.length === 0 ? null : (Math.min(...prices) as Micros)
}
