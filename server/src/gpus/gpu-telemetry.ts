import type { Telemetry } from '@orbyte/protocol'
import { type Context, isoFromMs } from '../context.ts'
import type { Transaction } from '../db/database.ts'
import type { GpuRegistry, MarketGpu, TelemetrySample } from './gpu-registry.ts'
import { gpuStatus } from './gpu-status.ts'
import { longer } from './numbered.ts'
import { deleteTelemetryBefore, insertTelemetry, type TelemetryMinute, writeLastSeen } from './gpu-history-store.ts'

const minuteMs = 60_000
const telemetryKeptMs = 30 * 24 * 3_600_000

const measures = ['utilization_percent', 'vram_used_gb', 'temperature_celsius', 'power_watts'] as const
/** Of each measure the sum and how many there were. */
const columns = 2 * measures.length
type Row = { readonly gpu: MarketGpu; readonly startMs: number; readonly averages: Telemetry }
const nothing: Telemetry = {
  utilization_percent: null,
  vram_used_gb: null,
  temperature_celsius: null,
  power_watts: null,
}

/** What was reported in a minute: all GPUs in one array, by their numbers, because there are thousands. */
class Minute {
  readonly #startMs: number
  /** Whose the numbers are: one that is free again may be another's. */
  readonly #gpus: (MarketGpu | undefined)[] = []
  #sums = new Float64Array(64 * columns)

  constructor(startMs: number) {
    this.#startMs = startMs
  }

  add(gpu: MarketGpu, telemetry: Telemetry) {
    const at = gpu.number * columns
    if (this.#gpus[gpu.number] !== gpu) this.#begin(gpu, at)
    for (const [index, measure] of measures.entries()) {
      const value = telemetry[measure]
      if (value === null) continue
      this.#sums[at + 2 * index]! += value
      this.#sums[at + 2 * index + 1]!++
    }
  }

  #begin(gpu: MarketGpu, at: number) {
    while (at >= this.#sums.length) this.#sums = longer(this.#sums)
    this.#sums.fill(0, at, at + columns)
    this.#gpus[gpu.number] = gpu
  }

  rows(): Row[] {
    return this.#gpus.flatMap((gpu) => (gpu ? { gpu, startMs: this.#startMs, averages: this.#averagesOf(gpu) } : []))
  }

  #averagesOf({ number }: MarketGpu): Telemetry {
    const averages = { ...nothing }
    for (const [index, measure] of measures.entries()) {
      const at = number * columns + 2 * index
      const [sum, count] = [this.#sums[at]!, this.#sums[at + 1]!]
      if (count > 0) averages[measure] = Math.round((sum / count) * 100) / 100
    }
    return averages
  }
}

/** Of so many GPUs at once, about 2 ms: with ten thousand, a task would else wait for all of them. */
const rowsAtOnceMax = 100

/**
 * Averages what agents report, by GPU and minute. `writeMinutes` puts the minutes that are over on disk, a few at a time, with
 * the statuses that have changed since, and drops what is older than 30 days.
 */
export function createTelemetryRecorder(context: Pick<Context, 'clock' | 'database'>, registry: GpuRegistry) {
  /** By when they began. */
  const minutes = new Map<number, Minute>()
  const statusesWritten = new Map<string, TelemetryMinute['status']>()
  const stopListening = registry.onTelemetry(addSample)

  function addSample({ gpu, telemetry, atMs }: TelemetrySample) {
    const startMs = startOfMinute(atMs)
    const minute = minutes.get(startMs) ?? new Minute(startMs)
    minutes.set(startMs, minute)
    minute.add(gpu, telemetry)
  }

  function takeMinutes(beforeMs: number): Row[] {
    const over = [...minutes].filter(([startMs]) => startMs < beforeMs)
    for (const [startMs] of over) minutes.delete(startMs)
    return over.flatMap(([, minute]) => minute.rows())
  }

  /** GPUs whose status is another than what is written, and of which no minute is over. */
  function silentNews(nowMs: number, over: readonly Row[]): Row[] {
    const averaged = new Set(over.map(({ gpu }) => gpu))
    // A GPU that no agent has backed since the start is offline: that needs no row.
    const isNews = (gpu: MarketGpu) => gpuStatus(gpu) !== (statusesWritten.get(gpu.id) ?? 'offline')
    const news = registry.all().filter((gpu) => !averaged.has(gpu) && isNews(gpu))
    return news.map((gpu) => ({ gpu, startMs: startOfMinute(nowMs), averages: nothing }))
  }

  async function writeRow(tx: Transaction, { gpu, startMs, averages }: Row) {
    if (!registry.has(gpu)) return
    const status = gpuStatus(gpu)
    await insertTelemetry(tx, gpu.id, { ...averages, at: isoFromMs(startMs), status })
    if (gpu.lastSeenMs !== 0) await writeLastSeen(tx, gpu)
    tx.afterCommit(() => statusesWritten.set(gpu.id, status))
  }

  async function write(rows: readonly Row[]) {
    for (let first = 0; first < rows.length; first += rowsAtOnceMax)
      await context.database.transaction(async (tx) => {
        for (const row of rows.slice(first, first + rowsAtOnceMax)) await writeRow(tx, row)
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

function startOfMinute(timeMs: number): number {
  return Math.floor(timeMs / minuteMs) * minuteMs
}
