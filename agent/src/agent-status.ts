import { formatOrb, parseOrb, type ServerMessageOf } from '@orbyte/protocol'
import { z } from 'zod'
import type { Abilities } from './attempts/abilities.ts'
import type { Attempt } from './attempts/attempt.ts'
import { usableVramMib } from './device-report.ts'
import { Rehearsal } from './executors/rehearsal.ts'
import type { DetectedDevice } from './gpus/gpu-detector.ts'

const DeviceStatus = z.object({
  index: z.number(),
  uuid: z.string(),
  gpu_id: z.string().nullable(),
  name: z.string(),
  model: z.string(),
  kind: z.string(),
  vram_gb: z.number(),
  usable_vram_gb: z.number().optional().describe('What tasks can have of it.'),
  price_per_hour: z.string().nullable(),
  status: z.enum([
    'available',
    'running',
    'drained',
    'reclaimed',
    'outside hours',
    'maintenance',
    'cooling down',
    'on trial',
    'not admitted',
    'offline',
  ]),
  computes: z
    .array(z.object({ executor: z.string(), rehearsal: Rehearsal }))
    .default([])
    .describe('By what each executor computes on it, where that was tried.'),
  cool_down_ms: z.number().describe('Nothing is offered to it for so long, because it has failed.'),
  attempts: z.array(
    z.object({
      id: z.string(),
      task_type: z.string(),
      status: z.string(),
      run_ms: z.number(),
      milli: z.number().describe('Thousandths of the device that it has.'),
    }),
  ),
})
export type DeviceStatus = z.output<typeof DeviceStatus>

/** What `orbyte agent status` shows: the answer to "why does it earn nothing?" is in here. */
export const AgentStatus = z.object({
  server: z.string(),
  connected: z.boolean(),
  agent_id: z.string().nullable(),
  fingerprint: z.string(),
  version: z.string(),
  stopping: z.boolean(),
  task_types: z.array(z.string()),
  problems: z.array(z.string()).describe('What keeps it, or a device, from working.'),
  results_waiting: z.number().describe('Results that the market has not acknowledged.'),
  devices: z.array(DeviceStatus),
})
export type AgentStatus = z.output<typeof AgentStatus>

/** A device whose price its owner's own minimum forbids would wait for ever. */
export function priceProblems(devices: readonly DeviceStatus[], minPricePerHour: string | null): string[] {
  if (minPricePerHour === null) return []
  return devices
    .filter(({ price_per_hour }) => price_per_hour !== null && parseOrb(price_per_hour) < parseOrb(minPricePerHour))
    .map(
      ({ name, price_per_hour, gpu_id }) =>
        `${name} is offered at ${price_per_hour} ORB an hour and --min-price wants ${minPricePerHour}, so it takes no task. Raise its price: orbyte gpus set ${gpu_id} --price ${minPricePerHour}`,
    )
}

export type DeviceStatusParts = {
  readonly device: DetectedDevice
  readonly index: number
  /** What the market calls it; null: it is not on the market. */
  readonly assigned: ServerMessageOf<'gpus'>['gpus'][number] | null
  readonly coolDownMs: number
  readonly attempts: readonly Attempt[]
  readonly paused: DeviceStatus['status'] | null
  readonly abilities: Abilities
  /** Whether the market has ever welcomed this agent process. */
  readonly isWelcome: boolean
}

export function deviceStatus(parts: DeviceStatusParts): DeviceStatus {
  const { device, index, assigned, coolDownMs, attempts, paused } = parts
  return {
    index,
    uuid: device.uuid,
    gpu_id: assigned?.gpu_id ?? null,
    name: assigned?.name ?? device.model,
    model: device.model,
    kind: device.kind,
    vram_gb: device.vramMib / 1_024,
    usable_vram_gb: usableVramGb(device, parts.abilities),
    price_per_hour: assigned === null ? null : formatOrb(assigned.price_per_hour),
    status: attempts.length === 0 ? (paused ?? idleStatus(parts)) : 'running',
    computes: parts.abilities.rehearsalsOn(device.uuid),
    cool_down_ms: coolDownMs,
    attempts: attempts.map((attempt) => {
      const { attempt_id: id, status, run_ms } = attempt.held()
      const { milli } = attempt.devices.find(({ uuid }) => uuid === device.uuid)!
      return { id, task_type: attempt.start.task_type, status, run_ms, milli }
    }),
  }
}

/** As the market counts it. */
function usableVramGb(device: DetectedDevice, abilities: Abilities): number {
  const mib = usableVramMib(device, abilities)
  return mib === null ? device.vramMib / 1_024 : Math.floor((mib / 1_024) * 10) / 10
}

function idleStatus({ assigned, coolDownMs, isWelcome }: DeviceStatusParts): DeviceStatus['status'] {
  if (assigned === null) return isWelcome ? 'not admitted' : 'offline'
  if (assigned.maintenance) return 'maintenance'
  if (coolDownMs > 0) return 'cooling down'
  return assigned.on_trial ? 'on trial' : 'available'
}
