import { type Liveness, type ReportedDevice, type TaskType, type Telemetry, wholeMilli } from '@orbyte/protocol'
import type { Clock } from '../context.ts'
import { processGb, usableGb } from './gpu-hardware.ts'
import type { GpuRecord } from './gpu-store.ts'
import { createInterning } from './interning.ts'
import { Numbered } from './numbered.ts'

/** A GPU as the market sees it: what is on disk, and what only memory knows. The same object for as long as the GPU exists. */
export type MarketGpu = GpuRecord & {
  /** No other has it, as long as this one is in. They are dense: what is known of GPUs elsewhere can be arrays. */
  readonly number: number
  /** The owner has told the agent to take nothing now. */
  readonly paused: boolean
  readonly connected: boolean
  /** Null: no agent has ever backed it. */
  readonly liveness: Liveness | null
  /** The owner's account is suspended. */
  readonly suspended: boolean
  /** Of the agent that reported it last; null: none has since the start. */
  readonly agentVersion: string | null
  /** The attempts that have it: one has all of it, or several have shares. */
  readonly holders: readonly Holder[]
  /** How many thousandths of it they have together: never more than there are. */
  readonly takenMilli: number
  /** GiB of its VRAM that tasks can have. */
  readonly usableVramGb: number
  /** GiB that each process there takes beside its task's. */
  readonly processVramGb: number
  /** What its agent can run and the owner's limits allow. */
  readonly taskTypes: readonly TaskType[]
  readonly modelFormats: readonly string[]
  /** Of that, what it can run on several GPUs of its machine, and on a share of one. */
  readonly several: ReportedDevice['several']
  readonly shares: ReportedDevice['shares']
  readonly ownModels: readonly string[]
  readonly loadedModels: readonly string[]
  readonly cachedModels: readonly string[]
  readonly limits: ReportedDevice['limits']
  readonly telemetry: Telemetry | null
}

export type Holder = { readonly attemptId: string; readonly milli: number }
/** What an attempt has of a GPU. */
export type Taken = { readonly gpuId: string; readonly milli: number }

type LiveGpu = { -readonly [Field in keyof MarketGpu]: MarketGpu[Field] }
export type ConnectedDevice = { readonly gpuId: string; readonly device: ReportedDevice }
export type TelemetrySample = { readonly gpu: MarketGpu; readonly telemetry: Telemetry; readonly atMs: number }

/**
 * The market's GPUs, in memory. Registration is true on disk and only copied here, after its commit; liveness, reservations and
 * telemetry live here and nowhere else, and begin anew with the process.
 */
export class GpuRegistry {
  readonly #clock: Pick<Clock, 'now'>
  readonly #gpus = new Map<string, LiveGpu>()
  readonly #byNumber = new Numbered<LiveGpu>()
  readonly #byAgent = new Map<string, LiveGpu[]>()
  readonly #byOwner = new Map<string, LiveGpu[]>()
  readonly #suspendedOwners = new Set<string>()
  /** In the last report of their agent. */
  readonly #reported = new Set<string>()
  /** On their way out: they cannot be reserved any more. */
  readonly #withdrawn = new Set<string>()
  readonly #changeListeners = new Set<(gpu: MarketGpu) => void>()
  readonly #telemetryListeners = new Set<(sample: TelemetrySample) => void>()
  readonly #intern = createInterning()
  /** For themselves: each machine has a disk of its own, of which there would soon be too many for all else. */
  readonly #internSpecs = createInterning()

  constructor(clock: Pick<Clock, 'now'>) {
    this.#clock = clock
  }

  get(gpuId: string): MarketGpu | undefined {
    return this.#gpus.get(gpuId)
  }

  /** False: it has been removed. */
  has(gpu: MarketGpu): boolean {
    return this.#byNumber.get(gpu.number) === gpu
  }

  all(): MarketGpu[] {
    return [...this.#gpus.values()]
  }

  ofAgent(agentId: string): MarketGpu[] {
    return [...(this.#byAgent.get(agentId) ?? [])]
  }

  ofOwner(ownerId: string): MarketGpu[] {
    return [...(this.#byOwner.get(ownerId) ?? [])]
  }

  /** All of it or nothing. False, and nothing changed: so much is not free, the attempt has some of it, or a GPU is not there. */
  reserve(attemptId: string, taken: readonly Taken[]): boolean {
    if (!taken.every((one) => this.#isFree(attemptId, one))) return false
    for (const { gpuId, milli } of taken) this.#hold(gpuId, (holders) => [...holders, { attemptId, milli }])
    return true
  }

  #isFree(attemptId: string, { gpuId, milli }: Taken): boolean {
    const gpu = this.#gpus.get(gpuId)
    if (!gpu || this.#withdrawn.has(gpuId) || gpu.takenMilli + milli > wholeMilli) return false
    return !gpu.holders.some((holder) => holder.attemptId === attemptId)
  }

  /** Does nothing to GPUs that `attemptId` has nothing of. */
  release(attemptId: string, taken: readonly Pick<Taken, 'gpuId'>[]) {
    for (const { gpuId } of taken)
      if (this.#gpus.get(gpuId)?.holders.some((holder) => holder.attemptId === attemptId))
        this.#hold(gpuId, (holders) => holders.filter((holder) => holder.attemptId !== attemptId))
  }

  #hold(gpuId: string, change: (holders: readonly Holder[]) => readonly Holder[]) {
    const gpu = this.#gpus.get(gpuId)!
    gpu.holders = kept(change(gpu.holders))
    gpu.takenMilli = gpu.holders.reduce((sum, { milli }) => sum + milli, 0)
    this.#changed(gpu)
  }

  /** The agent is here and has exactly these devices. The others that it had are no longer backed. */
  connect(agentId: string, devices: readonly ConnectedDevice[], version: string | null = null) {
    const reported = new Map(devices.map(({ gpuId, device }) => [gpuId, device]))
    for (const gpu of this.#byAgent.get(agentId) ?? []) {
      const device = reported.get(gpu.id)
      if (device) {
        this.#reported.add(gpu.id)
        const now = {
          connected: true,
          liveness: 'alive',
          lastSeenMs: this.#clock.now(),
          agentVersion: version,
        } as const
        Object.assign(gpu, this.#reportedFields(device, gpu), now)
      } else {
        this.#reported.delete(gpu.id)
        gpu.connected = false
      }
      this.#changed(gpu)
    }
  }

  setLiveness(agentId: string, liveness: Liveness, connected: boolean) {
    for (const gpu of this.#byAgent.get(agentId) ?? []) {
      const backed = connected && this.#reported.has(gpu.id)
      if (backed && liveness === 'alive') gpu.lastSeenMs = this.#clock.now()
      if (gpu.liveness === liveness && gpu.connected === backed) continue
      gpu.liveness = liveness
      gpu.connected = backed
      this.#changed(gpu)
    }
  }

  /** Not a change that `onChange` tells of: it arrives with every heartbeat and decides nothing. */
  setTelemetry(gpuId: string, telemetry: Telemetry) {
    const gpu = this.#gpus.get(gpuId)
    if (!gpu) return
    gpu.telemetry = telemetry
    const atMs = this.#clock.now()
    gpu.lastSeenMs = atMs
    const sample = { gpu, telemetry, atMs }
    for (const listen of this.#telemetryListeners) listen(sample)
  }

  setOwnerSuspended(ownerId: string, suspended: boolean) {
    if (suspended) this.#suspendedOwners.add(ownerId)
    else this.#suspendedOwners.delete(ownerId)
    for (const gpu of this.#byOwner.get(ownerId) ?? []) {
      if (gpu.suspended === suspended) continue
      gpu.suspended = suspended
      this.#changed(gpu)
    }
  }

  /** Takes over what is now on disk. For `afterCommit` and the start. */
  put(record: GpuRecord) {
    const known = this.#gpus.get(record.id)
    const gpu = known ?? this.#byNumber.add((number) => neverReported(record, number))
    const isElsewhere = known?.agentId !== record.agentId
    if (known && isElsewhere) this.#unlink(known)
    // What the disk says of when it was last heard is a minute old at times.
    Object.assign(gpu, record, {
      lastSeenMs: Math.max(gpu.lastSeenMs, record.lastSeenMs),
      model: this.#intern(record.model, known?.model),
      registered: this.#intern(record.registered, known?.registered),
      specs: this.#internSpecs(record.specs, known?.specs),
      differences: this.#intern(record.differences, known?.differences),
    })
    gpu.suspended = this.#suspendedOwners.has(gpu.ownerId)
    this.#gpus.set(gpu.id, gpu)
    if (isElsewhere) this.#link(gpu)
    this.#changed(gpu)
  }

  /** Like `put`, for some fields. Does nothing if the GPU has been removed. */
  patch(gpuId: string, fields: Partial<Omit<GpuRecord, 'id' | 'ownerId' | 'agentId'>>) {
    const gpu = this.#gpus.get(gpuId)
    if (!gpu) return
    Object.assign(gpu, fields)
    this.#changed(gpu)
  }

  /** One attempt more has completed on it: the same, in the same sequence, as on disk. */
  countCompleted(gpuId: string) {
    const gpu = this.#gpus.get(gpuId)
    if (!gpu) return
    gpu.tasksCompleted++
    gpu.failuresInARow = 0
    gpu.coolDownUntilMs = 0
    this.#changed(gpu)
  }

  /** From here on it cannot be reserved. False, and nothing changed: it is held. */
  withdraw(gpuId: string): boolean {
    if ((this.#gpus.get(gpuId)?.takenMilli ?? 0) > 0) return false
    this.#withdrawn.add(gpuId)
    return true
  }

  undoWithdraw(gpuId: string) {
    this.#withdrawn.delete(gpuId)
  }

  /** Listeners hear of it once more, disconnected; `get` no longer knows it. */
  remove(gpuId: string) {
    this.#withdrawn.delete(gpuId)
    this.#reported.delete(gpuId)
    const gpu = this.#gpus.get(gpuId)
    if (!gpu) return
    this.#gpus.delete(gpuId)
    this.#byNumber.release(gpu.number)
    this.#unlink(gpu)
    gpu.connected = false
    this.#changed(gpu)
  }

  /** `listen` hears of whatever may matter to matching or to the API, after it is so, and must not throw. */
  onChange(listen: (gpu: MarketGpu) => void): () => void {
    this.#changeListeners.add(listen)
    return () => this.#changeListeners.delete(listen)
  }

  onTelemetry(listen: (sample: TelemetrySample) => void): () => void {
    this.#telemetryListeners.add(listen)
    return () => this.#telemetryListeners.delete(listen)
  }

  #changed(gpu: MarketGpu) {
    for (const listen of this.#changeListeners) listen(gpu)
  }

  #reportedFields(device: ReportedDevice, before: MarketGpu) {
    const { task_types: allowed } = device.limits
    return {
      paused: device.paused,
      usableVramGb: usableGb(device),
      processVramGb: processGb(device),
      taskTypes: this.#intern(
        allowed === null ? device.task_types : device.task_types.filter((type) => allowed.includes(type)),
        before.taskTypes,
      ),
      modelFormats: this.#intern(device.model_formats, before.modelFormats),
      several: this.#intern(device.several, before.several),
      shares: this.#intern(device.shares, before.shares),
      ownModels: this.#intern(device.own_models, before.ownModels),
      loadedModels: this.#intern(device.loaded_models, before.loadedModels),
      cachedModels: this.#intern(device.cached_models, before.cachedModels),
      limits: this.#intern(device.limits, before.limits),
    } satisfies Partial<MarketGpu>
  }

  #link(gpu: LiveGpu) {
    link(this.#byOwner, gpu.ownerId, gpu)
    if (gpu.agentId !== null) link(this.#byAgent, gpu.agentId, gpu)
  }

  #unlink(gpu: LiveGpu) {
    unlink(this.#byOwner, gpu.ownerId, gpu)
    if (gpu.agentId !== null) unlink(this.#byAgent, gpu.agentId, gpu)
  }
}

/** One by one, so that all GPUs are of one shape: else each would have a shape of its own, of a kilobyte, and be slower to read. */
function neverReported(record: GpuRecord, number: number): LiveGpu {
  return {
    number,
    id: record.id,
    ownerId: record.ownerId,
    agentId: record.agentId,
    deviceUuid: record.deviceUuid,
    kind: record.kind,
    name: record.name,
    model: record.model,
    vramGb: record.vramGb,
    registered: record.registered,
    priceMicrosPerHour: record.priceMicrosPerHour,
    region: record.region,
    maintenance: record.maintenance,
    sharing: record.sharing,
    specs: record.specs,
    differences: record.differences,
    tasksCompleted: record.tasksCompleted,
    tasksFailed: record.tasksFailed,
    failuresInARow: record.failuresInARow,
    coolDownUntilMs: record.coolDownUntilMs,
    tasksSlow: record.tasksSlow,
    auditsPassed: record.auditsPassed,
    auditsFailed: record.auditsFailed,
    auditsInARow: record.auditsInARow,
    auditedAtMs: record.auditedAtMs,
    createdAt: record.createdAt,
    lastSeenMs: record.lastSeenMs,
    paused: false,
    connected: false,
    // A restarted server has heard of nobody yet; whether the agent comes back is seen from now on.
    liveness: record.agentId === null ? null : 'unknown',
    suspended: false,
    agentVersion: null,
    holders: nothing,
    takenMilli: 0,
    usableVramGb: record.vramGb,
    processVramGb: 0,
    taskTypes: nothing,
    modelFormats: nothing,
    several: unable,
    shares: unable,
    ownModels: nothing,
    loadedModels: nothing,
    cachedModels: nothing,
    limits: unlimited,
    telemetry: null,
  }
}

/** Most lists are empty, and there are many. */
const nothing: readonly never[] = []
const unlimited: MarketGpu['limits'] = { task_types: null, models: null, min_price_per_hour: null }
const unable: ReportedDevice['several'] = { task_types: [], model_formats: [] }
const kept = <T>(list: readonly T[]): readonly T[] => (list.length === 0 ? nothing : list)

function link(index: Map<string, LiveGpu[]>, key: string, gpu: LiveGpu) {
  const gpus = index.get(key)
  if (gpus) gpus.push(gpu)
  else index.set(key, [gpu])
}

function unlink(index: Map<string, LiveGpu[]>, key: string, gpu: LiveGpu) {
  const left = index.get(key)!.filter((other) => other !== gpu)
  if (left.length > 0) index.set(key, left)
  else index.delete(key)
}
