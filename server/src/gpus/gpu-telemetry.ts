import type { Telemetry } from '@orbyte/protocol'
import { type Context, isoFromMs } from '../context.ts'
import type { Transaction } from '../db/database.ts'
import type { GpuRegistry, TelemetrySample } from './gpu-registry.ts'
import { gpuStatus } from './gpu-status.ts'
import { deleteTelemetryBefore, insertTelemetry, type TelemetryMinute, writeLastSeen } from './gpu-history-store.ts'

const minuteMs = 60_000
const telemetryKeptMs = 30 * 24 * 3_600_000

const measures = ['utilization_percent', 'vram_used_gb', 'temperature_celsius', 'power_watts'] as const
type Sums = Record<(typeof measures)[number], { sum: number; count: number }>
type Minute = { readonly gpuId: string; readonly startMs: number; readonly sums: Sums }

/**
 * Averages what agents report, by GPU and minute. `writeMinutes` puts the minutes that are over on disk in one transaction,
 * with the statuses that have changed since, and drops what is older than 30 days.
 */
export function createTelemetryRecorder(context: Pick<Context, 'clock' | 'database'>, registry: GpuRegistry) {
  let minutes = new Map<string, Minute>()
  const statusesWritten = new Map<string, TelemetryMinute['status']>()
  const stopListening = registry.onTelemetry((sample) => addSample(minutes, sample))

  function takeMinutes(beforeMs: number): Minute[] {
    const over = [...minutes.values()].filter(({ startMs }) => startMs < beforeMs)
    minutes = new Map([...minutes].filter(([, { startMs }]) => startMs >= beforeMs))
    return over
  }

  async function write(tx: Transaction, nowMs: number, over: readonly Minute[]) {
    const averaged = new Set(over.map(({ gpuId }) => gpuId))
    for (const { gpuId, startMs, sums } of over) {
      const gpu = registry.get(gpuId)
      if (!gpu) continue
      await insertTelemetry(tx, gpuId, { ...averagesOf(sums), at: isoFromMs(startMs), status: gpuStatus(gpu) })
      if (gpu.lastSeenAt !== null) await writeLastSeen(tx, gpuId, gpu.lastSeenAt)
    }
    for (const gpu of registry.all()) {
      const status = gpuStatus(gpu)
      const written = statusesWritten.get(gpu.id)
      // A GPU that no agent has backed since the start is offline: that needs no row.
      const isNews = status !== (written ?? 'offline')
      if (isNews && !averaged.has(gpu.id))
        await insertTelemetry(tx, gpu.id, { ...nothingReported, at: isoFromMs(startOfMinute(nowMs)), status })
      if (isNews) tx.afterCommit(() => statusesWritten.set(gpu.id, status))
    }
    await deleteTelemetryBefore(tx, isoFromMs(nowMs - telemetryKeptMs))
  }

  return {
    /** If the disk refuses them, these minutes are lost: they are history, and nothing depends on them. */
    async writeMinutes() {
      const nowMs = context.clock.now()
      const over = takeMinutes(startOfMinute(nowMs))
      for (const gpuId of statusesWritten.keys()) if (!registry.get(gpuId)) statusesWritten.delete(gpuId)
      await context.database.transaction((tx) => write(tx, nowMs, over))
    },
    /** Also writes the minute that has begun. */
    async stop() {
      stopListening()
      const over = takeMinutes(Infinity)
      if (over.length > 0) await context.database.transaction((tx) => write(tx, context.clock.now(), over))
    },
  }
}
export type TelemetryRecorder = ReturnType<typeof createTelemetryRecorder>

const nothingReported: Telemetry = {
  utilization_percent: null,
  vram_used_gb: null,
  temperature_celsius: null,
  power_watts: null,
}

function addSample(minutes: Map<string, Minute>, { gpuId, telemetry, atMs }: TelemetrySample) {
  const startMs = startOfMinute(atMs)
  const key = `${gpuId} ${startMs}`
  const minute = minutes.get(key) ?? { gpuId, startMs, sums: noSums() }
  minutes.set(key, minute)
  for (const measure of measures) {
    const value = telemetry[measure]
    if (value === null) continue
    minute.sums[measure].sum += value
    minute.sums[measure].count++
  }
}

function noSums(): Sums {
  return Object.fromEntries(measures.map((measure) => [measure, { sum: 0, count: 0 }])) as Sums
}

function averagesOf(sums: Sums): Telemetry {
  return Object.fromEntries(
    measures.map((measure) => {
      const { sum, count } = sums[measure]
      return [measure, count === 0 ? null : Math.round((sum / count) * 100) / 100]
    }),
  ) as Telemetry
}

function startOfMinute(timeMs: number): number {
  return Math.floor(timeMs / minuteMs) * minuteMs
}
