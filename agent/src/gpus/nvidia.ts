import type { Telemetry } from '@orbyte/protocol'
import { type DetectedDevice, type GpuDetector, noTelemetry, type RunCommand } from './gpu-detector.ts'

const allFields = [
  'index',
  'uuid',
  'name',
  'driver_version',
  'memory.total',
  'memory.used',
  'utilization.gpu',
  'temperature.gpu',
  'power.draw',
  'compute_cap',
  'mig.mode.current',
  'memory.reserved',
] as const
/** Of drivers before 510, which count what they keep for themselves as used. One unknown field fails the whole query. */
const fieldsBefore510 = allFields.filter((field) => field !== 'memory.reserved')
/** What every driver since 2013 knows. */
const oldFields = ['index', 'uuid', 'name', 'driver_version', 'memory.total', 'memory.used', 'utilization.gpu'] as const
type Field = (typeof allFields)[number]
/** What nvidia-smi says about one GPU; null where it says that it does not know. */
export type NvidiaRow = Readonly<Partial<Record<Field, string | null>>>

export type NvidiaDetectorOptions = {
  readonly run: RunCommand
  /** The machine's memory: what a GPU has that has none of its own. */
  readonly ramBytes: number
}

/** NVIDIA's GPUs by nvidia-smi. A GPU that is split by MIG is offered as its instances. */
export function createNvidiaDetector({ run, ramBytes }: NvidiaDetectorOptions): GpuDetector {
  return {
    name: 'NVIDIA',
    async detect() {
      const rows = await queryRows(run)
      const isSplit = rows.some((row) => row['mig.mode.current'] === 'Enabled')
      const listing = isSplit ? ((await run('nvidia-smi', ['-L']))?.stdout ?? '') : ''
      return devicesOf(rows, { instances: parseMigInstances(listing), ramMib: Math.floor(ramBytes / 2 ** 20) })
    },
    async telemetry() {
      const rows = await queryRows(run)
      return new Map(rows.flatMap((row) => (row.uuid ? [[row.uuid, telemetryOf(row)] as const] : [])))
    },
  }
}

async function queryRows(run: RunCommand): Promise<NvidiaRow[]> {
  for (const fields of [allFields, fieldsBefore510, oldFields]) {
    const result = await run('nvidia-smi', [`--query-gpu=${fields.join(',')}`, '--format=csv,noheader,nounits'])
    if (result === null) return []
    if (result.exitCode === 0) return parseNvidiaRows(result.stdout, fields)
    const said = `${result.stdout}\n${result.stderr}`
    if (/No devices were found/i.test(said)) return []
    if (!/not a valid field/i.test(said)) throw new Error(`nvidia-smi failed: ${said.trim().split('\n')[0]}`)
  }
  throw new Error('nvidia-smi does not know the fields that it is asked for')
}

/** "0, GPU-3f…, NVIDIA A100, 535.104.05, 40960, 7, [N/A], 33, 56.12, 8.0, Enabled, 614" */
export function parseNvidiaRows(text: string, fields: readonly Field[] = allFields): NvidiaRow[] {
  return text
    .split('\n')
    .map((line) => line.trim().split(/\s*,\s*/))
    .filter((values) => values.length === fields.length)
    .map((values) => Object.fromEntries(fields.map((field, at) => [field, knownValue(values[at]!)])))
}

/** Not known is written in many ways: [N/A], [Not Supported], [Unknown Error], [GPU requires reset], N/A, ERR! */
function knownValue(text: string): string | null {
  return /^(\[.*\]|n\/a|err!|-|)$/i.test(text) ? null : text
}

export type MigInstance = { readonly gpuUuid: string; readonly profile: string; readonly uuid: string }

/** From `nvidia-smi -L`: lines of GPUs, each followed by those of its instances. */
export function parseMigInstances(text: string): MigInstance[] {
  const instances: MigInstance[] = []
  let gpuUuid = ''
  for (const line of text.split('\n')) {
    gpuUuid = /^GPU \d+:.*\(UUID: (GPU-[^)]+)\)/.exec(line)?.[1] ?? gpuUuid
    const [, profile, uuid] = /^\s+MIG (\S+)\s+Device\s+\d+:\s*\(UUID: (MIG-[^)]+)\)/.exec(line) ?? []
    if (profile !== undefined && uuid !== undefined) instances.push({ gpuUuid, profile, uuid })
  }
  return instances
}

export type NvidiaSurroundings = { readonly instances: readonly MigInstance[]; readonly ramMib: number }

export function devicesOf(rows: readonly NvidiaRow[], { instances, ramMib }: NvidiaSurroundings): DetectedDevice[] {
  return rows.flatMap((row, place) => {
    const { uuid, name } = row
    // GPUs that share the machine's memory (GB10, Jetson) do not say how much they have.
    const vramMib = numberOf(row['memory.total']) ?? ramMib
    if (!uuid || !name) return []
    const device = {
      uuid,
      index: numberOf(row.index) ?? place,
      kind: 'gpu' as const,
      // Drivers before 2021 leave the maker's name out.
      model: /^nvidia/i.test(name) ? name : `NVIDIA ${name}`,
      driver: row.driver_version ?? null,
      computeCapability: row.compute_cap ?? null,
    }
    if (row['mig.mode.current'] !== 'Enabled') return vramMib <= 0 ? [] : [{ ...device, vramMib, ...reservedOf(row) }]
    return instances
      .filter((instance) => instance.gpuUuid === uuid)
      .flatMap((instance) => {
        const profileGb = /\.(\d+)gb/.exec(instance.profile)?.[1]
        if (profileGb === undefined) return []
        const model = `${device.model} MIG ${instance.profile}`
        return [{ ...device, uuid: instance.uuid, model, vramMib: Number(profileGb) * 1_024 }]
      })
  })
}

function reservedOf(row: NvidiaRow): { reservedMib?: number } {
  const reservedMib = numberOf(row['memory.reserved'])
  return reservedMib === null ? {} : { reservedMib }
}

export function telemetryOf(row: NvidiaRow): Telemetry {
  const usedMib = numberOf(row['memory.used'])
  const utilization = numberOf(row['utilization.gpu'])
  return {
    ...noTelemetry,
    utilization_percent: utilization === null ? null : Math.min(100, Math.max(0, utilization)),
    vram_used_gb: usedMib === null ? null : Math.max(0, usedMib / 1_024),
    temperature_celsius: numberOf(row['temperature.gpu']),
    power_watts: atLeastZero(numberOf(row['power.draw'])),
  }
}

function numberOf(text: string | null | undefined): number | null {
  const value = Number.parseFloat(text ?? '')
  return Number.isFinite(value) ? value : null
}

function atLeastZero(value: number | null): number | null {
  return value === null ? null : Math.max(0, value)
}
