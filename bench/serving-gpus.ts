import { micros, type Model, wholeMilli } from '@orbyte/protocol'
import { agentId, marketGpu, numbered } from '@orbyte/server/gpus/fixture-gpus.ts'
import type { MarketGpu } from '@orbyte/server/gpus/gpu-registry.ts'
import { GpuIndex } from '@orbyte/server/scheduler/gpu-index.ts'
import { GpuSearch } from '@orbyte/server/scheduler/gpu-search.ts'
import { createLoadTimes } from '@orbyte/server/scheduler/load-times.ts'
import type { Found } from '@orbyte/server/scheduler/match-in-turns.ts'
import type { Timings } from '@orbyte/server/scheduler/expected-cost.ts'
import { type Wanted, wantedOf } from '@orbyte/server/scheduler/matching.ts'
import { seededRandom } from '../simulation/seeded-random.ts'

/** Name, speed, ORB an hour, how many. */
export const makes = [
  ['NVIDIA L4', 0.6, 0.32, 20],
  ['NVIDIA A10', 1, 0.5, 18],
  ['NVIDIA L40S', 1.9, 0.9, 12],
] as const
export const modelsHeld = 2
/** How long a model takes to load: log-normal, two thirds of the models within this factor of the median either way. */
export const loading = { medianSeconds: 10, factor: 1.6 }
/** What tasks are expected to run at speed 1, to begin with: about the mean of the trace. */
const expectedRunMs = 28_000

export type ServingGpus = ReturnType<typeof createServingGpus>

/** Fifty GPUs of mixed speed, whose prices follow their speed, and the market's search among those that are free. */
export function createServingGpus({ isWarmthKnown, seed }: { isWarmthKnown: boolean; seed: number }) {
  const random = seededRandom(seed, 'serving')
  const index = new GpuIndex()
  const search = new GpuSearch(index)
  const loadTimes = createLoadTimes()
  const speeds = new Map<string, number>(makes.map(([model, speed]) => [model, speed]))
  const wantedByModel = new Map<string, Wanted>()
  const loadSecondsByModel = new Map<string, number>()

  const gpus = makes
    .flatMap((make) => Array<typeof make>(make[3]).fill(make))
    .map(([model, , price], number) => {
      const priceMicrosPerHour = micros(Math.round(price * (0.9 + 0.2 * random.unit()) * 1_000_000))
      const fields = { ...numbered(number), agentId: agentId(number), taskTypes: ['image_generation' as const] }
      return marketGpu({ ...fields, model, priceMicrosPerHour, modelFormats: ['onnx'] })
    })
  for (const gpu of gpus) giveBack(gpu)

  const speedOf = (gpu: MarketGpu) => speeds.get(gpu.model)!

  function wantedFor(model: string): Wanted {
    const known = wantedByModel.get(model)
    if (known) return known
    const asking = { task_type: 'image_generation' as const, requirements: {}, max_price_per_hour: null }
    const timings: Timings = {
      runMs: (_wanted, gpu) => expectedRunMs / speedOf(gpu),
      loadMs: (_wanted, _gpu, warmth) => loadTimes.of(model, warmth),
    }
    const entry = { name: model, format: 'onnx', vram_gb: 8, task_types: ['image_generation'] } as unknown as Model
    const wanted = isWarmthKnown
      ? wantedOf({ ...asking, model }, entry, { timings })
      : wantedOf({ ...asking, model: null }, null, { timings })
    wantedByModel.set(model, wanted)
    return wanted
  }

  function find(wanted: Wanted, nowMs: number): Found | null {
    const choice = search.choose(wanted, { nowMs, random: random.unit })
    if (!choice) return null
    const gpu = choice.gpus[0]!
    return { choice, isWarm: wanted.modelName === null || gpu.loadedModels.includes(wanted.modelName) }
  }

  /** Says how long it takes to have the model in memory. The one that was used longest ago makes room. */
  function take(gpu: MarketGpu, model: string): number {
    const isHeld = gpu.loadedModels.includes(model)
    const seconds = isHeld ? 0 : loadSecondsOf(model)
    loadTimes.add(model, isHeld ? 'loaded' : 'absent', seconds * 1_000)
    const others = gpu.loadedModels.filter((each) => each !== model)
    Object.assign(gpu, { loadedModels: [...others.slice(1 - modelsHeld), model] })
    index.put(gpu, { isThere: true, freeMilli: 0 })
    return seconds
  }

  function giveBack(gpu: MarketGpu) {
    index.put(gpu, { isThere: true, freeMilli: wholeMilli })
  }

  function loadSecondsOf(model: string): number {
    const known = loadSecondsByModel.get(model)
    if (known !== undefined) return known
    const own = seededRandom(seed, `loading ${model}`)
    const normal = Math.sqrt(-2 * Math.log(1 - own.unit())) * Math.cos(2 * Math.PI * own.unit())
    const seconds = loading.medianSeconds * loading.factor ** normal
    loadSecondsByModel.set(model, seconds)
    return seconds
  }

  return { count: gpus.length, speedOf, wantedFor, find, take, giveBack }
}
