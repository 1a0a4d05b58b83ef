import { type ErrorCode, type Micros, micros, type ReportedDevice, type ServerMessageOf } from '@orbyte/protocol'
import { type Context, newId, nowIso } from '../context.ts'
import type { Transaction } from '../db/database.ts'
import { defaultPriceMicrosPerHour } from './gpu-default-prices.ts'
import { describeDifferences, gibFromMib, isSameVram } from './gpu-hardware.ts'
import { insertPrice } from './gpu-history-store.ts'
import { normaliseGpuName } from './gpu-names.ts'
import type { ConnectedDevice, GpuRegistry } from './gpu-registry.ts'
import { assignedGpu } from './gpu-view.ts'
import { countGpusOf, type GpuRecord, insertGpu, readGpuOfDevice, readGpusOfOwner, updateGpu } from './gpu-store.ts'

/** What an agent says that it has. */
export type AgentReport = {
  readonly agentId: string
  readonly ownerId: string
  readonly hostname: string
  readonly version: string
  readonly region: string | null
  readonly devices: readonly ReportedDevice[]
}
/** What the agent is told: the GPU of each device, or why it has none. */
export type BoundDevices = {
  readonly gpus: ServerMessageOf<'welcome'>['gpus']
  readonly refused: ServerMessageOf<'welcome'>['refused_devices']
}
type Refusal = { readonly code: ErrorCode; readonly message: string }
type Binding = Pick<Context, 'clock' | 'random' | 'config'> & {
  readonly tx: Transaction
  readonly registry: GpuRegistry
}

/**
 * Finds the GPU of each device: the one that has its UUID; else one that the owner registered by hand, of the same name and with
 * its VRAM within 5 %, the oldest first; else a new one. Memory follows with the commit, and the agent counts as connected.
 */
export async function bindDevices(binding: Binding, report: AgentReport): Promise<BoundDevices> {
  const { tx, registry } = binding
  let owner: Owner | null = null
  const readOwner = async () => (owner ??= await ownerOf(tx, report.ownerId))
  const connected: ConnectedDevice[] = []
  const gpus: BoundDevices['gpus'] = []
  const refused: BoundDevices['refused'] = []
  const seen = new Set<string>()
  for (const device of report.devices) {
    const { uuid } = device
    const gpu = seen.has(uuid) ? reportedTwice : await bindDevice(binding, { report, device, readOwner })
    seen.add(uuid)
    if ('code' in gpu) {
      refused.push({ uuid, ...gpu })
      continue
    }
    connected.push({ gpuId: gpu.id, device })
    gpus.push(assignedGpu({ ...gpu, deviceUuid: uuid }, binding.clock.now()))
    tx.afterCommit(() => registry.put(gpu))
  }
  tx.afterCommit(() => registry.connect(report.agentId, connected, report.version))
  return { gpus, refused }
}

const reportedTwice: Refusal = {
  code: 'gpu_device_taken',
  message: 'The agent reports two devices with this UUID. Each device needs one of its own.',
}

/** What a device that is not known yet needs to know of its owner's GPUs. */
type Owner = { unbound: GpuRecord[]; gpusCount: number }
type OneDevice = {
  readonly report: AgentReport
  readonly device: ReportedDevice
  /** Only where the device is not known: most agents come back with those that they had, many at once after a restart. */
  readonly readOwner: () => Promise<Owner>
}

async function ownerOf(tx: Transaction, ownerId: string): Promise<Owner> {
  return { unbound: await readGpusOfOwner(tx, ownerId, { isUnbound: true }), gpusCount: await countGpusOf(tx, ownerId) }
}

async function bindDevice(binding: Binding, { report, device, readOwner }: OneDevice): Promise<GpuRecord | Refusal> {
  const { config, registry, tx } = binding
  if (device.kind === 'emulated' && !config.allowEmulatedGpus)
    return {
      code: 'emulated_gpus_refused',
      message: 'This market does not admit emulated GPUs. Start the agent without --emulate, on a machine with a GPU.',
    }
  const known = await readGpuOfDevice(tx, device.uuid)
  if (known) {
    const refusal = refuseTaken(known, report, registry)
    if (refusal) return refusal
  }
  const detected = { model: device.model, vramGb: gibFromMib(device.vram_mib) }
  const found = known ?? takeMatching(await readOwner(), detected)
  if (!found) return registerDevice(binding, { report, device, readOwner })
  const bound: GpuRecord = {
    ...found,
    ...detected,
    agentId: report.agentId,
    deviceUuid: device.uuid,
    kind: device.kind,
    specs: device.specs,
    region: found.agentId === null ? (found.region ?? report.region) : found.region,
    differences: describeDifferences(found.registered, detected),
    lastSeenMs: binding.clock.now(),
  }
  await updateGpu(tx, bound)
  return bound
}

/** A device may move to another key of its owner (a reinstalled machine) while its old agent is away, and to nobody else. */
function refuseTaken(known: GpuRecord, report: AgentReport, registry: GpuRegistry): Refusal | null {
  if (known.ownerId !== report.ownerId)
    return {
      code: 'gpu_device_taken',
      message: 'Another account has registered this device. Its owner has to delete that GPU first.',
    }
  if (known.agentId !== report.agentId && registry.get(known.id)?.connected)
    return {
      code: 'gpu_device_taken',
      message: `Another agent of yours is connected with this device, as ${known.name} (${known.id}). Stop that agent first.`,
    }
  return null
}

function takeMatching(owner: Owner, detected: { model: string; vramGb: number }): GpuRecord | null {
  const index = owner.unbound.findIndex(
    (gpu) =>
      normaliseGpuName(gpu.model) === normaliseGpuName(detected.model) && isSameVram(gpu.vramGb, detected.vramGb),
  )
  return index < 0 ? null : (owner.unbound.splice(index, 1)[0] ?? null)
}

/** What is usual for its kind, and never less than what its owner works for. */
function usualPrice({ kind, model, limits }: ReportedDevice): Micros {
  return micros(Math.max(defaultPriceMicrosPerHour(kind, model), limits.min_price_per_hour ?? 0))
}

async function registerDevice(binding: Binding, { report, device, readOwner }: OneDevice) {
  const { config, tx } = binding
  const owner = await readOwner()
  if (owner.gpusCount >= config.limits.gpusPerOwnerMax) return tooManyGpus(config.limits.gpusPerOwnerMax)
  owner.gpusCount++
  const detected = { model: device.model, vramGb: gibFromMib(device.vram_mib) }
  const gpu: GpuRecord = {
    ...newGpuRecord(binding, { ownerId: report.ownerId, name: nameOf(device, report), ...detected }),
    agentId: report.agentId,
    deviceUuid: device.uuid,
    kind: device.kind,
    priceMicrosPerHour: device.price_per_hour ?? usualPrice(device),
    sharing: device.sharing,
    region: report.region,
    specs: device.specs,
    lastSeenMs: binding.clock.now(),
  }
  await insertGpu(tx, gpu)
  await insertPrice(tx, gpu, gpu.createdAt)
  await explainNearMisses(binding, owner, gpu)
  return gpu
}

/** What its owner registered by hand, under the same name but with other VRAM, says why it did not become this device. */
async function explainNearMisses({ tx, registry }: Binding, owner: Owner, gpu: GpuRecord) {
  for (const [index, near] of owner.unbound.entries()) {
    if (normaliseGpuName(near.model) !== normaliseGpuName(gpu.model)) continue
    const sentence = `registered with ${near.vramGb} GiB, but your agent detected ${gpu.vramGb} GiB, which is more than 5 % apart: it became ${gpu.id}`
    const explained: GpuRecord = { ...near, differences: [sentence] }
    owner.unbound[index] = explained
    await updateGpu(tx, explained)
    tx.afterCommit(() => registry.put(explained))
  }
}

function nameOf(device: ReportedDevice, { hostname, devices }: AgentReport): string {
  if (device.name?.trim()) return device.name.trim()
  const alike = devices.filter(({ model }) => model === device.model)
  const number = alike.length > 1 ? ` #${alike.indexOf(device) + 1}` : ''
  return `${device.model.slice(0, 60)}${number} on ${hostname}`.slice(0, 100).trim()
}

export function tooManyGpus(gpusMax: number): Refusal {
  return {
    code: 'too_many_gpus',
    message: `An account may have ${gpusMax} GPUs. Delete one that you do not use any more.`,
  }
}

type NewGpu = Pick<GpuRecord, 'ownerId' | 'name' | 'model' | 'vramGb'>

/** A GPU that no agent has backed, at the default price. */
export function newGpuRecord(
  context: Pick<Context, 'clock' | 'random'>,
  { ownerId, name, model, vramGb }: NewGpu,
): GpuRecord {
  return {
    id: newId(context, 'gpu'),
    ownerId,
    agentId: null,
    deviceUuid: null,
    kind: 'gpu',
    name,
    model,
    vramGb,
    registered: { model, vramGb },
    priceMicrosPerHour: defaultPriceMicrosPerHour('gpu', model),
    region: null,
    maintenance: false,
    sharing: false,
    specs: null,
    differences: [],
    tasksCompleted: 0,
    tasksFailed: 0,
    failuresInARow: 0,
    coolDownUntilMs: 0,
    tasksSlow: 0,
    auditsPassed: 0,
    auditsFailed: 0,
    auditsInARow: 0,
    auditedAtMs: 0,
    createdAt: nowIso(context),
    lastSeenMs: 0,
  }
}
