import type { TaskType } from '@orbyte/protocol'
import type { Clock } from '../context.ts'
import { makeOf } from '../gpus/gpu-names.ts'
import type { SpeedService } from '../speeds/speed-service.ts'
import { createLoadTimes } from './load-times.ts'
import { type Timings, usualRunMs } from './expected-cost.ts'
import { median, type RecentDemand } from './recent-demand.ts'

type Parts = { clock: Clock; speeds: Pick<SpeedService, 'usualRates'>; demand: RecentDemand }

/** Speeds change slowly, and to gather them means to look at all GPUs that have run the model. */
const keptMs = 10_000
const modelsMax = 1_000

/** How long tasks take, by what the market has seen: what the matcher weighs prices with. */
export function createMeasuredTimings({ clock, speeds, demand }: Parts) {
  const loadTimes = createLoadTimes()
  const ratesByWork = new Map<string, { atMs: number; rates: ReadonlyMap<string, number>; middle: number }>()

  function ratesOf(model: string, taskType: TaskType) {
    const key = `${taskType} ${model}`
    const known = ratesByWork.get(key)
    if (known && clock.now() - known.atMs < keptMs) return known
    const rates = speeds.usualRates({ model, taskType })
    const middle = rates.size === 0 ? 0 : median([...rates.values()])
    const gathered = { atMs: clock.now(), rates, middle }
    ratesByWork.delete(key)
    ratesByWork.set(key, gathered)
    if (ratesByWork.size > modelsMax) ratesByWork.delete(ratesByWork.keys().next().value!)
    return gathered
  }

  const timings: Timings = {
    /** As long as such tasks run lately, scaled by how fast this make is beside the others. */
    runMs(wanted, gpu) {
      const typicalMs = demand.typicalRun(wanted)?.ms ?? null
      if (wanted.modelName === null) return typicalMs
      const { rates, middle } = ratesOf(wanted.modelName, wanted.taskType)
      const rate = rates.get(makeOf(gpu))
      return rate === undefined ? typicalMs : ((typicalMs ?? usualRunMs) * middle) / rate
    },
    loadMs: ({ modelName }, _gpu, warmth) => (modelName === null ? null : loadTimes.of(modelName, warmth)),
  }
  return { timings, loadTimes }
}
