import type { AgentOptions } from './agent-config.ts'
import type { Abilities } from './attempts/abilities.ts'
import type { ModelMemory } from './attempts/model-memory.ts'
import type { WireDevice } from './connection/wire-messages.ts'
import type { DetectedDevice } from './gpus/gpu-detector.ts'
import type { Machine } from './outside.ts'

export type DeviceReportParts = {
  readonly options: Pick<AgentOptions, 'name' | 'pricePerHour' | 'sharing' | 'limits'>
  readonly machine: Machine
  readonly diskFreeBytes: number | null
  readonly devices: readonly DetectedDevice[]
  readonly abilities: Abilities
  readonly memory: ModelMemory
  isPaused(deviceUuid: string): boolean
}

/** Each device names models, and all devices together are one message. */
const modelNamesMax = 2_000

const nothing = { task_types: [], model_formats: [] }

/** Only where it was seen how much VRAM a process uses is nobody kept from theirs: see nvidia-processes.ts. */
function isDivisible({ kind, uuid }: DetectedDevice, abilities: Abilities): boolean {
  if (kind === 'emulated') return true
  return uuid.startsWith('GPU-') && abilities.rehearsalsOn(uuid).some(({ rehearsal }) => rehearsal.vramMib !== null)
}

/** Without what the driver keeps, and what an engine's process takes beside its model; null: all of it, as far as is known. */
export function usableVramMib({ uuid, vramMib, reservedMib }: DetectedDevice, abilities: Abilities): number | null {
  const processMib = processVramMib({ uuid }, abilities)
  if (reservedMib === undefined && processMib === 0) return null
  return Math.max(1, vramMib - (reservedMib ?? 0) - processMib)
}

/** What the process of an engine takes, as the driver listed it in a rehearsal, whose model is next to nothing. */
function processVramMib({ uuid }: Pick<DetectedDevice, 'uuid'>, abilities: Abilities): number {
  return Math.max(0, ...abilities.rehearsalsOn(uuid).map(({ rehearsal }) => rehearsal.vramMib ?? 0))
}

/** What the market is told about this machine's devices. */
export function deviceReport(parts: DeviceReportParts): WireDevice[] {
  const { options, abilities, memory, devices } = parts
  const { taskTypes, models, minPricePerHour } = options.limits
  const namesMax = Math.min(200, Math.ceil(modelNamesMax / devices.length))
  return devices.map((device) => ({
    uuid: device.uuid,
    index: device.index,
    kind: device.kind,
    model: device.model,
    vram_mib: device.vramMib,
    usable_vram_mib: usableVramMib(device, abilities),
    process_vram_mib: processVramMib(device, abilities),
    specs: specsOf(device, parts),
    ...abilities.on(device),
    own_models: abilities.ownModels().slice(0, namesMax),
    loaded_models: memory.loadedOn(device.uuid),
    cached_models: memory.cached().slice(-namesMax),
    paused: parts.isPaused(device.uuid),
    several: abilities.on(device, 'several'),
    shares: isDivisible(device, abilities) ? abilities.on(device, 'shares') : nothing,
    price_per_hour: options.pricePerHour,
    sharing: options.sharing,
    name: options.name && (devices.length === 1 ? options.name : `${options.name} ${devices.indexOf(device)}`),
    limits: {
      task_types: taskTypes && [...taskTypes],
      models: models && [...models],
      min_price_per_hour: minPricePerHour,
    },
  }))
}

/** Whether two reports say the same; free disk space alone is no news. */
export function isSameReport(first: readonly WireDevice[], second: readonly WireDevice[]): boolean {
  const news = (report: readonly WireDevice[]) =>
    JSON.stringify(report, (key, value: unknown) => (key === 'storage_gb' ? null : value))
  return news(first) === news(second)
}

function specsOf(device: DetectedDevice, { machine, diskFreeBytes }: DeviceReportParts): WireDevice['specs'] {
  return {
    driver: device.driver,
    compute_capability: device.computeCapability,
    os: machine.os,
    cpu_model: machine.cpuModel,
    cpu_cores: machine.cpuCores,
    ram_gb: machine.ramBytes / 2 ** 30,
    storage_gb: diskFreeBytes === null ? null : Math.floor(diskFreeBytes / 2 ** 30),
  }
}
