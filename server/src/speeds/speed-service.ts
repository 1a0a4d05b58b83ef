import { type GpuSpeed, problem, type TaskType } from '@orbyte/protocol'
import { type Context, nowIso } from '../context.ts'
import type { Transaction } from '../db/database.ts'
import { makeOf } from '../gpus/gpu-names.ts'
import type { GpuRegistry, MarketGpu } from '../gpus/gpu-registry.ts'
import {
  addMeasured,
  judgeRun,
  type Measured,
  rateOf,
  type Speed,
  type SpeedVerdict,
  usualRate,
} from './speed-estimate.ts'
import { putSpeed, readSpeed, readSpeeds, type SpeedKey } from './speed-store.ts'
import { workUnits } from './speed-work.ts'

export type SpeedService = Awaited<ReturnType<typeof createSpeedService>>
type WithModel = { readonly model: string; readonly taskType: TaskType }

/**
 * How fast each GPU really is with each model of the catalogue, from the run time that was charged. An entry for each GPU and
 * model, on disk and in memory.
 */
export async function createSpeedService(context: Context, registry: GpuRegistry) {
  const byWork = new Map<string, Map<string, Speed>>()
  const speedsWith = ({ model, taskType }: WithModel) => {
    const key = `${taskType} ${model}`
    const speeds = byWork.get(key) ?? new Map<string, Speed>()
    byWork.set(key, speeds)
    return speeds
  }
  for (const { gpuId, speed, ...withModel } of await context.database.read(readSpeeds))
    speedsWith(withModel).set(gpuId, speed)

  /** What GPUs of the same kind do that belong to others. */
  function rateOfOthers(gpu: MarketGpu, withModel: WithModel): number | null {
    const make = makeOf(gpu)
    const ratesByOwner = new Map<string, number[]>()
    for (const [gpuId, speed] of speedsWith(withModel)) {
      const other = registry.get(gpuId)
      const rate = rateOf(speed)
      if (!other || rate === null || other.ownerId === gpu.ownerId || makeOf(other) !== make) continue
      ratesByOwner.set(other.ownerId, [...(ratesByOwner.get(other.ownerId) ?? []), rate])
    }
    return usualRate(ratesByOwner.values())
  }

  return {
    /**
     * Whether a run took far longer than it takes on others' GPUs of this kind; where there are too few, than on this one until
     * now. Null: nothing is known to measure it against.
     */
    judge({ gpuId, work, runMs, ...withModel }: SpeedKey & Measured): SpeedVerdict | null {
      const gpu = registry.get(gpuId)
      if (!gpu) return null
      const rate = rateOfOthers(gpu, withModel) ?? rateOf(speedsWith(withModel).get(gpuId))
      return rate === null ? null : judgeRun({ work, runMs }, rate)
    },

    /** Work a millisecond, for each make of GPU that enough owners have run the model on; by `makeOf`. */
    usualRates(withModel: WithModel): ReadonlyMap<string, number> {
      const byMake = new Map<string, Map<string, number[]>>()
      for (const [gpuId, speed] of speedsWith(withModel)) {
        const gpu = registry.get(gpuId)
        const rate = rateOf(speed)
        if (!gpu || rate === null) continue
        const byOwner = byMake.get(makeOf(gpu)) ?? new Map<string, number[]>()
        byOwner.set(gpu.ownerId, [...(byOwner.get(gpu.ownerId) ?? []), rate])
        byMake.set(makeOf(gpu), byOwner)
      }
      const usual = [...byMake].map(([make, byOwner]) => [make, usualRate(byOwner.values())] as const)
      return new Map(usual.filter((entry): entry is readonly [string, number] => entry[1] !== null))
    },

    /** Whether it has completed a task with this model. */
    hasRun: (gpuId: string, model: string) =>
      [...byWork].some(([key, speeds]) => key.endsWith(` ${model}`) && speeds.has(gpuId)),

    /** Within the transaction that ends an attempt. */
    async record(tx: Transaction, { gpuId, model, taskType, ...measured }: SpeedKey & Measured) {
      const key = { gpuId, model, taskType }
      const speed = addMeasured(await readSpeed(tx, key), measured)
      await putSpeed(tx, key, { speed, at: nowIso(context) })
      tx.afterCommit(() => void speedsWith(key).set(gpuId, speed))
    },

    /** For whoever looks at a GPU. */
    async ofGpu(gpuId: string): Promise<{ items: GpuSpeed[] }> {
      if (!registry.get(gpuId)) throw problem('not_found', `There is no GPU ${gpuId}. List them with GET /api/gpus.`)
      const items = [...byWork].flatMap(([key, speeds]) => {
        const speed = speeds.get(gpuId)
        const [taskType, model] = [key.slice(0, key.indexOf(' ')) as TaskType, key.slice(key.indexOf(' ') + 1)]
        return speed ? [viewSpeed(speed, { model, taskType })] : []
      })
      return { items: items.sort((a, b) => b.attempts - a.attempts) }
    },
  }
}

function viewSpeed(speed: Speed, { model, taskType }: WithModel): GpuSpeed {
  const rate = rateOf(speed)
  return {
    model,
    task_type: taskType,
    unit: workUnits[taskType] ?? '',
    per_second: rate === null ? null : Number((rate * 1_000).toPrecision(3)),
    attempts: speed.attempts,
    run_ms: speed.runMs,
  }
}
