import { type DeviceSpecs, formatOrb, type GpuKind, type Micros } from '@orbyte/protocol'
import { isoFromMs } from '../context.ts'
import { flag, type Reader, type Transaction } from '../db/database.ts'
import { type GpuStanding, insertStanding, type StandingRow } from './gpu-standing-store.ts'

/** What is kept of a GPU on disk. `model` and `vramGb` are as detected once an agent backs it, as registered before. */
export type GpuRecord = GpuStanding & {
  readonly id: string
  readonly ownerId: string
  /** The agent that reported it last; null: none ever did. */
  readonly agentId: string | null
  readonly deviceUuid: string | null
  readonly kind: GpuKind
  readonly name: string
  readonly model: string
  /** GiB. */
  readonly vramGb: number
  /** What its owner registered, or the agent reported the first time. */
  readonly registered: { readonly model: string; readonly vramGb: number }
  readonly priceMicrosPerHour: Micros
  readonly region: string | null
  readonly maintenance: boolean
  /** Its owner lets several tasks have shares of it. */
  readonly sharing: boolean
  readonly specs: DeviceSpecs | null
  readonly differences: readonly string[]
  readonly createdAt: string
  /** Milliseconds since 1970; 0: no agent ever had it. */
  readonly lastSeenMs: number
}

type GpuRow = StandingRow & {
  id: string
  owner_id: string
  agent_id: string | null
  device_uuid: string | null
  kind: GpuKind
  name: string
  model: string
  vram_gb: number
  registered_model: string
  registered_vram_gb: number
  price_micros_per_hour: number
  region: string | null
  maintenance: number
  sharing: number
  specs: string | null
  differences: string
  created_at: string
  last_seen_at: string | null
}

function gpuOf(row: GpuRow): GpuRecord {
  return {
    id: row.id,
    ownerId: row.owner_id,
    agentId: row.agent_id,
    deviceUuid: row.device_uuid,
    kind: row.kind,
    name: row.name,
    model: row.model,
    vramGb: row.vram_gb,
    registered: { model: row.registered_model, vramGb: row.registered_vram_gb },
    priceMicrosPerHour: row.price_micros_per_hour as Micros,
    region: row.region,
    maintenance: row.maintenance === 1,
    sharing: row.sharing === 1,
    specs: row.specs === null ? null : (JSON.parse(row.specs) as DeviceSpecs),
    differences: JSON.parse(row.differences) as string[],
    tasksCompleted: row.tasks_completed,
    tasksFailed: row.tasks_failed,
    failuresInARow: row.failures_in_a_row,
    coolDownUntilMs: row.cool_down_until === null ? 0 : Date.parse(row.cool_down_until),
    tasksSlow: row.tasks_slow,
    auditsPassed: row.audits_passed,
    auditsFailed: row.audits_failed,
    auditsInARow: row.audits_in_a_row,
    auditedAtMs: row.audited_at === null ? 0 : Date.parse(row.audited_at),
    createdAt: row.created_at,
    lastSeenMs: row.last_seen_at === null ? 0 : Date.parse(row.last_seen_at),
  }
}

const gpus = 'gpus JOIN gpu_standings ON gpu_id = id'

export async function readAllGpus(reader: Reader): Promise<GpuRecord[]> {
  const rows = await reader.all<GpuRow>(`SELECT * FROM ${gpus} WHERE deleted_at IS NULL ORDER BY id`)
  return rows.map(gpuOf)
}

export async function readGpu(reader: Reader, gpuId: string): Promise<GpuRecord | null> {
  const row = await reader.get<GpuRow>(`SELECT * FROM ${gpus} WHERE id = ? AND deleted_at IS NULL`, gpuId)
  return row ? gpuOf(row) : null
}

/** Also of a deleted GPU: its history can still be read. */
export async function readOwnerId(reader: Reader, gpuId: string): Promise<string | null> {
  const row = await reader.get<{ owner_id: string }>('SELECT owner_id FROM gpus WHERE id = ?', gpuId)
  return row?.owner_id ?? null
}

/** Oldest first. `isUnbound`: only those that no agent has reported, that their owner has registered by hand. */
export async function readGpusOfOwner(
  reader: Reader,
  ownerId: string,
  { isUnbound }: { isUnbound: boolean } = { isUnbound: false },
): Promise<GpuRecord[]> {
  const rows = await reader.all<GpuRow>(
    `SELECT * FROM ${gpus} WHERE owner_id = ? AND deleted_at IS NULL ${isUnbound ? 'AND device_uuid IS NULL' : ''} ORDER BY id`,
    ownerId,
  )
  return rows.map(gpuOf)
}

export async function countGpusOf(reader: Reader, ownerId: string): Promise<number> {
  const row = await reader.get<{ count: number }>(
    'SELECT count(*) AS count FROM gpus WHERE owner_id = ? AND deleted_at IS NULL',
    ownerId,
  )
  return row!.count
}

/** In wire form, with the deleted ones. */
export async function exportGpusOfOwner(reader: Reader, ownerId: string) {
  const rows = await reader.all<GpuRow & { deleted_at: string | null }>(
    `SELECT * FROM ${gpus} WHERE owner_id = ? ORDER BY id`,
    ownerId,
  )
  return rows.map(({ id, name, model, kind, vram_gb, region, created_at, deleted_at, ...row }) => {
    return {
      id,
      name,
      model,
      kind,
      vram_gb,
      price_per_hour: formatOrb(row.price_micros_per_hour),
      region,
      created_at,
      deleted_at,
    }
  })
}

export async function readGpuOfDevice(reader: Reader, deviceUuid: string): Promise<GpuRecord | null> {
  const row = await reader.get<GpuRow>(`SELECT * FROM ${gpus} WHERE device_uuid = ? AND deleted_at IS NULL`, deviceUuid)
  return row ? gpuOf(row) : null
}

/** As tables and the API have it. */
export function lastSeenAt({ lastSeenMs }: Pick<GpuRecord, 'lastSeenMs'>): string | null {
  return lastSeenMs === 0 ? null : isoFromMs(lastSeenMs)
}

export async function insertGpu(tx: Transaction, gpu: GpuRecord) {
  await tx.run(
    `INSERT INTO gpus (id, owner_id, agent_id, device_uuid, kind, name, model, vram_gb, registered_model, registered_vram_gb,
       price_micros_per_hour, region, maintenance, sharing, specs, differences, created_at, last_seen_at)
     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
    ...[gpu.id, gpu.ownerId, gpu.agentId, gpu.deviceUuid, gpu.kind, gpu.name, gpu.model, gpu.vramGb],
    ...[gpu.registered.model, gpu.registered.vramGb, gpu.priceMicrosPerHour, gpu.region],
    ...[flag(gpu.maintenance), flag(gpu.sharing)],
    ...[gpu.specs && JSON.stringify(gpu.specs), JSON.stringify(gpu.differences), gpu.createdAt, lastSeenAt(gpu)],
  )
  await insertStanding(tx, gpu.id)
}

/** Writes what an owner may change and an agent may report; how it has done is gpu-standing-store.ts's. */
export async function updateGpu(tx: Transaction, gpu: GpuRecord) {
  await tx.run(
    `UPDATE gpus SET agent_id = ?, device_uuid = ?, kind = ?, name = ?, model = ?, vram_gb = ?, registered_model = ?,
       registered_vram_gb = ?, price_micros_per_hour = ?, region = ?, maintenance = ?, sharing = ?, specs = ?, differences = ?, last_seen_at = ?
     WHERE id = ?`,
    ...[
      gpu.agentId,
      gpu.deviceUuid,
      gpu.kind,
      gpu.name,
      gpu.model,
      gpu.vramGb,
      gpu.registered.model,
      gpu.registered.vramGb,
    ],
    ...[gpu.priceMicrosPerHour, gpu.region, flag(gpu.maintenance), flag(gpu.sharing)],
    ...[gpu.specs && JSON.stringify(gpu.specs)],
    ...[JSON.stringify(gpu.differences), lastSeenAt(gpu), gpu.id],
  )
}

export async function markGpuDeleted(tx: Transaction, gpuId: string, deletedAt: string) {
  await tx.run('UPDATE gpus SET deleted_at = ? WHERE id = ? AND deleted_at IS NULL', deletedAt, gpuId)
}
