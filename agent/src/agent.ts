import { agentProtocolVersion, encodeBase32, type ServerMessage, type ServerMessageOf } from '@orbyte/protocol'
import type { AgentOptions } from './agent-config.ts'
import { AssignedGpus } from './assigned-gpus.ts'
import { type AgentStatus, type DeviceStatus, deviceStatus, priceProblems } from './agent-status.ts'
import { Abilities } from './attempts/abilities.ts'
import type { AttemptEnd } from './attempts/attempt.ts'
import { AttemptRunner, type RunnableDevice } from './attempts/attempt-runner.ts'
import { ModelMemory } from './attempts/model-memory.ts'
import { ResultJournal } from './attempts/result-journal.ts'
import { type Moment, momentNow } from './clock.ts'
import { Connection, type Refusal } from './connection/connection.ts'
import { Heartbeats } from './connection/heartbeats.ts'
import { Outbox } from './connection/outbox.ts'
import type { WireDevice, WireMessageOf } from './connection/wire-messages.ts'
import { deviceReport, isSameReport } from './device-report.ts'
import { Devices } from './gpus/devices.ts'
import { type Identity, loadIdentity } from './identity.ts'
import type { Outside } from './outside.ts'
import { isWithinHours } from './owner/hours.ts'
import { Pauses, type PauseReason } from './owner/pauses.ts'

/** What an agent needs to be told. */
export type StartOptions = Pick<
  AgentOptions,
  'server' | 'token' | 'name' | 'region' | 'pricePerHour' | 'sharing' | 'limits' | 'drainMsMax'
> &
  Partial<Pick<AgentOptions, 'timeScale'>>

export interface Agent {
  /** Resolves when the agent has ended; never rejects. */
  readonly ended: Promise<AgentEnd>
  status(): AgentStatus
  /** The owner's controls. `gpu`: a device by number, uuid, id or name; null: all. Reject with what to write instead. */
  drain(gpu: string | null): Promise<void>
  resume(gpu: string | null): Promise<void>
  /** Resolves when the device is free. */
  reclaim(gpu: string | null): Promise<void>
  /** "drain": finish what runs, at most `drainMsMax`; "now": stop it. Both send the results first. */
  stop(mode: 'drain' | 'now'): void
}

/** `refused`: the server will not have this agent, and coming back does not help. */
export type AgentEnd = { readonly reason: 'stopped' | 'refused' | 'failed'; readonly message: string }

const refreshMs = 60_000
/** Executors are tried again every so many refreshes: a try may start a process. */
const abilitiesEvery = 5
/** How long a stopping agent waits for the acknowledgement of what it kept; it stays on disk otherwise. */
const flushMsMax = { drain: 10_000, now: 3_000 }

export function startAgent(options: StartOptions, outside: Outside): Agent {
  return new MarketAgent(options, outside)
}

class MarketAgent implements Agent {
  readonly ended: Promise<AgentEnd>
  readonly #options: StartOptions
  readonly #outside: Outside
  readonly #instance: string
  readonly #outbox = new Outbox()
  readonly #journal: ResultJournal
  readonly #memory: ModelMemory
  readonly #pauses: Pauses
  readonly #abilities: Abilities
  readonly #runner: AttemptRunner
  readonly #assigned: AssignedGpus
  readonly #connection: Connection
  readonly #heartbeats: Heartbeats
  /** Aborted when the agent starts to stop, when it must not wait any more, and when the connection may go. */
  readonly #stopping = new AbortController()
  readonly #hurry = new AbortController()
  readonly #over = new AbortController()
  #devices: Devices
  #identity: Identity | null = null
  #welcome: ServerMessageOf<'welcome'> | null = null
  #diskFreeBytes: number | null = null
  #reported: WireDevice[] = []
  /** Why there is nothing to start for; null once it is known which devices there are and what their owner has said of them. */
  readonly #prepared: Promise<string | null>
  /** The last moment that the server is known to have spoken after. */
  #heardAfter: Moment

  constructor(options: StartOptions, outside: Outside) {
    const { clock, log, storage, executors } = outside
    this.#options = options
    this.#outside = outside
    this.#instance = encodeBase32(outside.random.bytes(16))
    this.#heardAfter = momentNow(clock)
    this.#journal = new ResultJournal({ storage, log })
    this.#memory = new ModelMemory(storage)
    this.#pauses = new Pauses({ storage, log })
    this.#abilities = new Abilities({ executors, log })
    this.#devices = new Devices({ detectors: [], log })
    this.#assigned = new AssignedGpus({ log, clock })
    this.#runner = new AttemptRunner({
      outside,
      limits: options.limits,
      abilities: this.#abilities,
      memory: this.#memory,
      outbox: this.#outbox,
      journal: this.#journal,
      deviceOf: (uuid) => this.#runnableDevice(uuid),
      onChange: () => this.#reportChanges(),
    })
    this.#connection = new Connection({
      server: options.server,
      outside,
      timeScale: options.timeScale ?? 1,
      hello: (nonce) => this.#hello(nonce),
      onWelcome: (welcome, helloSentAt) => this.#onWelcome(welcome, helloSentAt),
      onMessage: (message) => this.#onMessage(message),
      onLost: () => this.#onLost(),
    })
    this.#heartbeats = new Heartbeats({
      clock,
      attempts: () => this.#runner.running(),
      telemetry: () => this.#devices.telemetry(),
      lastSeq: () => this.#outbox.lastSeq,
      send: (heartbeat) => this.#connection.send(heartbeat),
      onSilence: () => this.#connection.drop('The market has fallen silent.'),
    })
    this.#prepared = this.#prepare()
    this.ended = this.#live()
  }

  status(): AgentStatus {
    const { taskTypes, minPricePerHour } = this.#options.limits
    const devices = this.#deviceStatuses()
    return {
      server: this.#options.server,
      connected: this.#connection.isOpen(),
      agent_id: this.#welcome?.agent_id ?? null,
      fingerprint: this.#identity?.fingerprint ?? '',
      version: this.#outside.version,
      stopping: this.#stopping.signal.aborted,
      task_types: this.#abilities.taskTypes(this.#devices.all()).filter((type) => taskTypes?.includes(type) ?? true),
      problems: [
        ...this.#connection.problems(),
        ...this.#devices.problems(),
        ...this.#abilities.problems(this.#devices.all()),
        ...(this.#welcome?.refused_devices.map(({ uuid, message }) => `${uuid}: ${message}`) ?? []),
        ...priceProblems(devices, minPricePerHour),
      ],
      results_waiting: this.#runner.resultsWaiting(),
      devices,
    }
  }

  #deviceStatuses(): DeviceStatus[] {
    return this.#devices.all().map((device, index) =>
      deviceStatus({
        device,
        index,
        assigned: this.#assigned.of(device.uuid),
        coolDownMs: this.#assigned.coolDownMs(device.uuid),
        attempts: this.#runner.runningOn(device.uuid),
        paused: this.#whyPaused(device.uuid),
        abilities: this.#abilities,
        isWelcome: this.#welcome !== null,
      }),
    )
  }

  async drain(gpu: string | null): Promise<void> {
    await this.#pause(await this.#meant(gpu), 'drained')
  }

  async resume(gpu: string | null): Promise<void> {
    const written = this.#pauses.resume(await this.#meant(gpu))
    this.#reportChanges()
    await written
  }

  async reclaim(gpu: string | null): Promise<void> {
    const meant = await this.#meant(gpu)
    const [paused] = await Promise.allSettled([
      this.#pause(meant, 'reclaimed'),
      this.#runner.stopAll(reclaimed, (uuid) => meant.includes(uuid)),
    ])
    await this.#freePaused()
    if (paused.status === 'rejected') throw paused.reason
  }

  /** The devices that are meant. Before it is known which there are, the answer waits: else it would be that of none. */
  async #meant(gpu: string | null): Promise<string[]> {
    const problem = await this.#prepared
    if (problem !== null) throw new Error(problem)
    return this.#assigned.meant(this.#devices.all(), gpu)
  }

  stop(mode: 'drain' | 'now'): void {
    this.#stopping.abort()
    if (mode === 'now') this.#hurry.abort()
  }

  async #live(): Promise<AgentEnd> {
    let end: AgentEnd = { reason: 'stopped', message: 'The agent has stopped.' }
    try {
      const problem = await this.#prepared
      if (problem !== null) return { reason: 'failed', message: problem }
      const refused = this.#connection.run(this.#over.signal)
      void this.#keepFresh()
      const refusal = await Promise.race([refused, this.#drained()])
      if (refusal !== null) end = refusedEnd(refusal)
      this.#stopping.abort()
      this.#runner.refuseNew()
      await this.#runner.stopAll(agentStopped)
      if (refusal === null) await this.#flushed()
      this.#heartbeats.stop()
      this.#over.abort()
      await refused
      await this.#journal.written()
    } catch (error) {
      this.#over.abort()
      end = { reason: 'failed', message: error instanceof Error ? error.message : String(error) }
    } finally {
      // Ends the wait of a drain that is over, which would keep the process alive.
      this.#hurry.abort()
      await Promise.allSettled(this.#outside.executors.map((executor) => executor.close()))
    }
    return end
  }

  /** Why there is nothing to start for, or null. */
  async #prepare(): Promise<string | null> {
    const { detectors, machine, log } = this.#outside
    this.#identity = await loadIdentity(this.#outside)
    this.#devices = new Devices({ detectors: detectors(this.#identity.fingerprint), log })
    await Promise.all([this.#pauses.load(), this.#memory.load(), this.#devices.refresh()])
    await this.#abilities.refresh(this.#devices.all())
    this.#diskFreeBytes = await machine.diskFreeBytes().catch(() => null)
    this.#runner.restore(await this.#journal.load())
    if (this.#devices.all().length > 0) return null
    const why = this.#devices.problems().join(' ') || 'No GPU was found on this machine.'
    return `${why} To offer its CPU: --cpu. For a trial: --emulate "RTX 4090:24".`
  }

  /** Resolves with null when the agent should stop and nothing runs that it has to wait for. */
  async #drained(): Promise<null> {
    const { signal } = this.#stopping
    if (!signal.aborted) await new Promise((resolve) => signal.addEventListener('abort', resolve))
    this.#runner.refuseNew()
    this.#reportChanges()
    const limit = this.#outside.clock.sleep(this.#options.drainMsMax, this.#hurry.signal).catch(() => {})
    await Promise.race([this.#runner.idle(), limit])
    return null
  }

  async #flushed(): Promise<void> {
    const flushMs = this.#hurry.signal.aborted ? flushMsMax.now : flushMsMax.drain
    const limit = this.#outside.clock.sleep(flushMs, this.#over.signal).catch(() => {})
    await Promise.race([this.#outbox.emptied(), limit])
  }

  async #keepFresh(): Promise<void> {
    const { clock, machine } = this.#outside
    for (let round = 1; !this.#over.signal.aborted; round++) {
      await clock.sleep(refreshMs, this.#over.signal).catch(() => {})
      if (this.#over.signal.aborted) return
      await this.#devices.refresh()
      const devices = this.#devices.all()
      if (round % abilitiesEvery === 0 || this.#abilities.isNew(devices)) await this.#abilities.refresh(devices)
      this.#diskFreeBytes = await machine.diskFreeBytes().catch(() => null)
      this.#reportChanges()
    }
  }

  #hello(nonce: string): WireMessageOf<'hello'> {
    const { machine, version } = this.#outside
    const identity = this.#identity!
    // It says all of this, so what waits to be said is old news.
    this.#outbox.dropUnsent(({ type }) => type === 'devices')
    this.#reported = this.#report()
    return {
      type: 'hello',
      protocol_version: agentProtocolVersion,
      agent_version: version,
      instance: this.#instance,
      public_key: identity.publicKey,
      signature: identity.signNonce(nonce),
      agent_token: this.#options.token,
      acked_seq: this.#outbox.acknowledgedSeq,
      hostname: machine.hostname,
      os: machine.os,
      region: this.#options.region,
      devices: this.#reported,
      attempts: this.#runner.held(),
    }
  }

  #onWelcome(welcome: ServerMessageOf<'welcome'>, helloSentAt: Moment): void {
    const { log } = this.#outside
    this.#welcome = welcome
    this.#heardAfter = helloSentAt
    this.#assigned.replace(welcome.gpus)
    log.info(`Connected to ${this.#options.server} as ${welcome.agent_id}.`)
    for (const { uuid, message } of welcome.refused_devices) log.warn(`The market does not admit ${uuid}: ${message}`)
    this.#runner.welcomed(welcome, helloSentAt)
    this.#outbox.connect((text) => this.#connection.sendText(text), welcome.acked_seq)
    this.#heartbeats.start(welcome.heartbeat_ms)
    this.#reportChanges()
  }

  #onMessage(message: ServerMessage): void {
    switch (message.type) {
      case 'ack':
        return this.#outbox.acknowledge(message.seq)
      case 'heartbeat.ack': {
        const heartbeat = this.#heartbeats.answered(message)
        if (heartbeat === null) return
        this.#connection.confirm()
        this.#heardAfter = heartbeat.sentAt
        this.#outbox.acknowledge(message.acked_seq)
        return this.#runner.heartbeatAnswered(heartbeat, message.attempts)
      }
      case 'gpus':
        this.#assigned.update(message.gpus)
        return void this.#freePaused()
      case 'attempt.start':
        return this.#runner.start(message, this.#heardAfter)
      case 'attempt.stop':
        return this.#runner.stop(message)
      case 'challenge':
      case 'welcome':
      case 'refused':
        return
    }
  }

  #onLost(): void {
    this.#outbox.disconnect()
    this.#heartbeats.stop()
  }

  #report(): WireDevice[] {
    return deviceReport({
      options: this.#options,
      machine: this.#outside.machine,
      diskFreeBytes: this.#diskFreeBytes,
      devices: this.#devices.all(),
      abilities: this.#abilities,
      memory: this.#memory,
      isPaused: (uuid) => this.#whyPaused(uuid) !== null,
    })
  }

  /** Whoever has their GPU back has its VRAM back. */
  async #freePaused(): Promise<void> {
    const uuids = this.#devices.all().map(({ uuid }) => uuid)
    await this.#runner.free(uuids.filter((uuid) => this.#whyPaused(uuid) ?? this.#assigned.of(uuid)?.maintenance))
  }

  #reportChanges(): void {
    void this.#freePaused()
    // Before the hello there is nobody to tell, and the hello tells it all.
    if (!this.#connection.isOpen()) return
    const devices = this.#report()
    if (isSameReport(devices, this.#reported)) return
    this.#reported = devices
    this.#outbox.add({ type: 'devices', devices })
  }

  #whyPaused(uuid: string): DeviceStatus['status'] | null {
    const isOpenNow = isWithinHours(this.#options.limits.hours, this.#outside.clock.now())
    return (
      this.#pauses.reasonOf(uuid) ?? (this.#stopping.signal.aborted ? 'drained' : isOpenNow ? null : 'outside hours')
    )
  }

  async #pause(uuids: readonly string[], reason: PauseReason): Promise<void> {
    const written = this.#pauses.pause(uuids, reason)
    this.#reportChanges()
    await written
  }

  #runnableDevice(uuid: string): RunnableDevice | null {
    const device = this.#devices.find(uuid)
    if (device === null) return null
    const { kind, index } = device
    const priceMicrosPerHour = this.#assigned.of(uuid)?.price_per_hour ?? null
    return { device: { uuid, kind, index }, isPaused: this.#pauses.reasonOf(uuid) !== null, priceMicrosPerHour }
  }
}

const failed = { outcome: 'failed', output_data: null, fault: 'provider' } as const
const reclaimed: AttemptEnd = { ...failed, code: 'reclaimed', message: 'The owner took the GPU back.' }
const agentStopped: AttemptEnd = {
  ...failed,
  code: 'agent_stopped',
  message: 'The agent was stopped before it ended.',
}

function refusedEnd({ code, message }: Refusal): AgentEnd {
  return { reason: 'refused', message: `The market does not accept this agent: ${message} (${code})` }
}
