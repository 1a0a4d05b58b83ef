import { type GpuSpeed, problem, type TaskType } from '@orbyte/protocol'
import { type Context, nowIso } from '../context.ts'
import type { Transaction } from '../db/database.ts'
import type { GpuRegistry } from '../gpus/gpu-registry.ts'
import { addMeasured, judgeRun, type Measured, rateOf, type Speed, type SpeedVerdict } from './speed-estimate.ts'
import { putSpeed, readSpeed, readSpeeds, type SpeedKey } from './speed-store.ts'
import { workUnits } from './speed-work.ts'
import { createUsualSpeeds } from './usual-speeds.ts'

export type SpeedService = Awaited<ReturnType<typeof createSpeedService>>
type WithModel = { readonly model: string; readonly taskType: TaskType }

/**
 * How fast each GPU really is with each model of the catalogue, from the run time that was charged. An entry for each GPU and
 * model, on disk and in memory.
 */
export async function createSpeedService(context: Context, registry: GpuRegistry) {
  const byWork = new Map<string, Map<string, Speed>>()
  const speedsWith = (withModel: WithModel) => {
    const key = keyOf(withModel)
    const speeds = byWork.get(key) ?? new Map<string, Speed>()
    byWork.set(key, speeds)
    return speeds
  }
  for (const { gpuId, speed, ...withModel } of await context.database.read(readSpeeds))
    speedsWith(withModel).set(gpuId, speed)

  const usualSpeeds = createUsualSpeeds(context.clock, registry)

  return {
    /**
     * Whether a run took far longer than it takes on others' GPUs of this kind; where there are too few, than on this one until
     * now. Null: nothing is known to measure it against.
     */
    judge({ gpuId, work, runMs, ...withModel }: SpeedKey & Measured): SpeedVerdict | null {
      const gpu = registry.get(gpuId)
      if (!gpu) return null
      const speeds = speedsWith(withModel)
      const rate = usualSpeeds.ofOthers(gpu, keyOf(withModel), speeds) ?? rateOf(speeds.get(gpuId))
      return rate === null ? null : judgeRun({ work, runMs }, rate)
    },

    /** Work a millisecond, for each make of GPU that enough owners have run the model on; by `makeOf`. */
    usualRates: (withModel: WithModel) => usualSpeeds.byMake(keyOf(withModel), speedsWith(withModel)),

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

const keyOf = ({ model, taskType }: WithModel) => `${taskType} ${model}`

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
