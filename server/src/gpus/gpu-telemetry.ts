import type { Telemetry } from '@orbyte/protocol'
import { type Context, isoFromMs } from '../context.ts'
import type { Transaction } from '../db/database.ts'
import type { GpuRegistry, MarketGpu, TelemetrySample } from './gpu-registry.ts'
import { gpuStatus } from './gpu-status.ts'
import { deleteTelemetryBefore, insertTelemetry, type TelemetryMinute, writeLastSeen } from './gpu-history-store.ts'

const minuteMs = 60_000
const telemetryKeptMs = 30 * 24 * 3_600_000

const measures = ['utilization_percent', 'vram_used_gb', 'temperature_celsius', 'power_watts'] as const
/** Of each measure the sum and how many there were: one list, because there is one for each GPU. */
type Sums = number[]
/** By when a minute began, and by GPU. */
type Minutes = Map<number, Map<string, Sums>>
type Minute = { readonly gpuId: string; readonly startMs: number; readonly sums: Sums }

/** Of so many GPUs at once, about 2 ms: with ten thousand, a task would else wait for all of them. */
const rowsAtOnceMax = 100

/**
 * Averages what agents report, by GPU and minute. `writeMinutes` puts the minutes that are over on disk, a few at a time, with
 * the statuses that have changed since, and drops what is older than 30 days.
 */
export function createTelemetryRecorder(context: Pick<Context, 'clock' | 'database'>, registry: GpuRegistry) {
  const minutes: Minutes = new Map()
  const statusesWritten = new Map<string, TelemetryMinute['status']>()
  const stopListening = registry.onTelemetry((sample) => addSample(minutes, sample))

  function takeMinutes(beforeMs: number): Minute[] {
    const over = [...minutes].filter(([startMs]) => startMs < beforeMs)
    for (const [startMs] of over) minutes.delete(startMs)
    return over.flatMap(([startMs, gpus]) => [...gpus].map(([gpuId, sums]) => ({ gpuId, startMs, sums })))
  }

  /** GPUs whose status is another than what is written, and of which no minute is over. */
  function silentNews(nowMs: number, over: readonly Minute[]): Minute[] {
    const averaged = new Set(over.map(({ gpuId }) => gpuId))
    // A GPU that no agent has backed since the start is offline: that needs no row.
    const isNews = (gpu: MarketGpu) => gpuStatus(gpu) !== (statusesWritten.get(gpu.id) ?? 'offline')
    const news = registry.all().filter((gpu) => !averaged.has(gpu.id) && isNews(gpu))
    return news.map(({ id }) => ({ gpuId: id, startMs: startOfMinute(nowMs), sums: noSums() }))
  }

  async function writeMinute(tx: Transaction, { gpuId, startMs, sums }: Minute) {
    const gpu = registry.get(gpuId)
    if (!gpu) return
    const status = gpuStatus(gpu)
    await insertTelemetry(tx, gpuId, { ...averagesOf(sums), at: isoFromMs(startMs), status })
    if (gpu.lastSeenMs !== 0) await writeLastSeen(tx, gpu)
    tx.afterCommit(() => statusesWritten.set(gpuId, status))
  }

  async function write(rows: readonly Minute[]) {
    for (let first = 0; first < rows.length; first += rowsAtOnceMax)
      await context.database.transaction(async (tx) => {
        for (const row of rows.slice(first, first + rowsAtOnceMax)) await writeMinute(tx, row)
      })
  }

  return {
    /** If the disk refuses them, these minutes are lost: they are history, and nothing depends on them. */
    async writeMinutes() {
      const nowMs = context.clock.now()
      const over = takeMinutes(startOfMinute(nowMs))
      for (const gpuId of statusesWritten.keys()) if (!registry.get(gpuId)) statusesWritten.delete(gpuId)
      await write([...over, ...silentNews(nowMs, over)])
      await context.database.transaction((tx) => deleteTelemetryBefore(tx, isoFromMs(nowMs - telemetryKeptMs)))
    },
    /** Also writes the minute that has begun. */
    async stop() {
      stopListening()
      const over = takeMinutes(Infinity)
      if (over.length > 0) await write([...over, ...silentNews(context.clock.now(), over)])
    },
  }
}
export type TelemetryRecorder = ReturnType<typeof createTelemetryRecorder>

function addSample(minutes: Minutes, { gpuId, telemetry, atMs }: TelemetrySample) {
  const startMs = startOfMinute(atMs)
  const gpus = minutes.get(startMs) ?? new Map<string, Sums>()
  minutes.set(startMs, gpus)
  const sums = gpus.get(gpuId) ?? noSums()
  gpus.set(gpuId, sums)
  for (const [index, measure] of measures.entries()) {
    const value = telemetry[measure]
    if (value === null) continue
    sums[2 * index]! += value
    sums[2 * index + 1]!++
  }
}

const noSums = (): Sums => Array<number>(2 * measures.length).fill(0)

function averagesOf(sums: Sums): Telemetry {
  return Object.fromEntries(
    measures.map((measure, index) => {
      const [sum, count] = [sums[2 * index]!, sums[2 * index + 1]!]
      return [measure, count === 0 ? null : Math.round((sum / count) * 100) / 100]
    }),
  ) as Telemetry
}

function startOfMinute(timeMs: number): number {
  return Math.floor(timeMs / minuteMs) * minuteMs
}
