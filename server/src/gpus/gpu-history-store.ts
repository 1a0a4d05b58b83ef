import type { GpuStatus, Micros, Telemetry } from '@orbyte/protocol'
import type { Reader, Row, Transaction } from '../db/database.ts'
import { type GpuRecord, lastSeenAt } from './gpu-store.ts'

/** Prices begin with the GPU's first one, so that every attempt's can be looked up. */
export async function insertPrice(
  tx: Transaction,
  gpu: Pick<GpuRecord, 'id' | 'priceMicrosPerHour'>,
  changedAt: string,
) {
  await tx.run(
    `INSERT INTO gpu_prices (gpu_id, changed_at, price_micros_per_hour) VALUES (?, ?, ?)
     ON CONFLICT DO UPDATE SET price_micros_per_hour = excluded.price_micros_per_hour`,
    ...[gpu.id, changedAt, gpu.priceMicrosPerHour],
  )
}

export async function readPrices(
  reader: Reader,
  gpuId: string,
): Promise<{ price_per_hour: Micros; changed_at: string }[]> {
  const rows = await reader.all<{ changed_at: string; price_micros_per_hour: number }>(
    'SELECT changed_at, price_micros_per_hour FROM gpu_prices WHERE gpu_id = ? ORDER BY changed_at DESC LIMIT 1000',
    gpuId,
  )
  return rows.map((row) => ({ changed_at: row.changed_at, price_per_hour: row.price_micros_per_hour as Micros }))
}

/** One minute of a GPU: the averages of what its agent reported. All null: it reported nothing, only its status changed. */
export type TelemetryMinute = Telemetry & { readonly at: string; readonly status: GpuStatus }

export async function insertTelemetry(tx: Transaction, gpuId: string, minute: TelemetryMinute) {
  await tx.run(
    `INSERT INTO gpu_telemetry (gpu_id, at, status, utilization_percent, vram_used_gb, temperature_celsius, power_watts)
     VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET status = excluded.status,
       utilization_percent = excluded.utilization_percent, vram_used_gb = excluded.vram_used_gb,
       temperature_celsius = excluded.temperature_celsius, power_watts = excluded.power_watts`,
    ...[gpuId, minute.at, minute.status, minute.utilization_percent, minute.vram_used_gb],
    ...[minute.temperature_celsius, minute.power_watts],
  )
}

export async function readTelemetry(reader: Reader, gpuId: string, since: string): Promise<TelemetryMinute[]> {
  return reader.all<TelemetryMinute & Row>(
    `SELECT at, status, utilization_percent, vram_used_gb, temperature_celsius, power_watts FROM gpu_telemetry
     WHERE gpu_id = ? AND at >= ? ORDER BY at DESC`,
    ...[gpuId, since],
  )
}

export function deleteTelemetryBefore(tx: Transaction, before: string): Promise<number> {
  return tx.run('DELETE FROM gpu_telemetry WHERE at < ?', before)
}

export async function writeLastSeen(tx: Transaction, gpu: Pick<GpuRecord, 'id' | 'lastSeenMs'>) {
  await tx.run('UPDATE gpus SET last_seen_at = ? WHERE id = ?', lastSeenAt(gpu), gpu.id)
}
