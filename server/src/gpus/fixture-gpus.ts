import { makeId, type Micros, micros, type ReportedDevice, wholeMilli } from '@orbyte/protocol'
import type { MarketGpu, Taken } from './gpu-registry.ts'
import type { GpuRecord } from './gpu-store.ts'

/** The same id for the same number. */
const idOf = (kind: 'user' | 'gpu' | 'agent' | 'attempt', number: number) =>
  makeId(kind, 1_772_000_000_000 + number, new Uint8Array(10).fill(number % 256))
export const userId = (number: number) => idOf('user', number)
export const gpuId = (number: number) => idOf('gpu', number)
export const agentId = (number: number) => idOf('agent', number)
export const attemptId = (number: number) => idOf('attempt', number)
export const orb = (amount: number): Micros => micros(Math.round(amount * 1_000_000))

/** The same object for all, as lists are that an agent has reported once. */
const able: ReportedDevice['several'] = {
  task_types: ['text_generation', 'embedding', 'other'],
  model_formats: ['gguf', 'wordvec'],
}

export function reportedDevice(fields: Partial<ReportedDevice> = {}): ReportedDevice {
  return {
    uuid: 'GPU-1',
    index: 0,
    kind: 'gpu',
    model: 'NVIDIA GeForce RTX 4090',
    vram_mib: 24_564,
    usable_vram_mib: null,
    process_vram_mib: 0,
    specs: {
      driver: '550.54',
      compute_capability: '8.9',
      os: 'linux',
      cpu_model: 'AMD EPYC 7763',
      cpu_cores: 64,
      ram_gb: 256,
      storage_gb: 1_000,
    },
    task_types: ['text_generation', 'embedding'],
    model_formats: ['gguf', 'wordvec'],
    own_models: [],
    loaded_models: [],
    cached_models: [],
    paused: false,
    several: able,
    shares: able,
    price_per_hour: null,
    sharing: false,
    name: null,
    limits: { task_types: null, models: null, min_price_per_hour: null },
    ...fields,
  }
}

export function gpuRecord(fields: Partial<GpuRecord> = {}): GpuRecord {
  const model = fields.model ?? 'NVIDIA GeForce RTX 4090'
  const vramGb = fields.vramGb ?? 23.99
  return {
    id: gpuId(1),
    ownerId: userId(1),
    agentId: agentId(1),
    deviceUuid: 'GPU-1',
    kind: 'gpu',
    name: 'a GPU',
    model,
    vramGb,
    registered: { model, vramGb },
    priceMicrosPerHour: orb(0.34),
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
    createdAt: '2026-03-01T12:00:00.000Z',
    lastSeenMs: 0,
    ...fields,
  }
}

/** By what those are told apart that are in no registry. */
export const numbered = (number: number) => ({ id: gpuId(number), number })

/** One that could take a task now, unless `fields` say otherwise. */
export function marketGpu(fields: Partial<MarketGpu> = {}): MarketGpu {
  return {
    ...gpuRecord(fields),
    number: 1,
    paused: false,
    connected: true,
    liveness: 'alive',
    suspended: false,
    agentVersion: '0.1.0',
    holders: [],
    takenMilli: 0,
    usableVramGb: fields.vramGb ?? 23.99,
    processVramGb: 0,
    taskTypes: ['text_generation', 'embedding'],
    modelFormats: ['gguf', 'wordvec'],
    several: able,
    shares: able,
    ownModels: [],
    loadedModels: [],
    cachedModels: [],
    limits: { task_types: null, models: null, min_price_per_hour: null },
    telemetry: null,
    ...fields,
  }
}

/** All of a GPU. */
export const whole = (id: string): Taken[] => [{ gpuId: id, milli: wholeMilli }]
/** Of a GPU that an attempt has, all of it or less. */
export const heldBy = (attempt: string, milli = wholeMilli) => ({
  holders: [{ attemptId: attempt, milli }],
  takenMilli: milli,
})
