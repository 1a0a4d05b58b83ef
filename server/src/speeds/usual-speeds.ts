import type { Clock } from '../context.ts'
import { makeOf } from '../gpus/gpu-names.ts'
import type { GpuRegistry, MarketGpu } from '../gpus/gpu-registry.ts'
import { rateOf, type Speed, usualRate } from './speed-estimate.ts'

/** By make (`makeOf`), then by owner. */
type Rates = ReadonlyMap<string, ReadonlyMap<string, readonly number[]>>

/** Up to so many GPUs what is usual is worked out each time; of more, once a minute. */
const freshGpusMax = 200
const keptMs = 60_000

/** What GPUs of each make usually do with a model. `speeds`: of all GPUs with that model, by id; `what`: names them. */
export function createUsualSpeeds(clock: Pick<Clock, 'now'>, registry: GpuRegistry) {
  const makes = new Map<string, string>()
  const known = new Map<string, { readonly atMs: number; readonly rates: Rates }>()

  function makeOnce({ kind, model }: Pick<MarketGpu, 'kind' | 'model'>): string {
    const key = `${kind} ${model}`
    const make = makes.get(key) ?? makeOf({ kind, model })
    makes.set(key, make)
    return make
  }

  function gather(speeds: ReadonlyMap<string, Speed>): Rates {
    const byMake = new Map<string, Map<string, number[]>>()
    for (const [gpuId, speed] of speeds) {
      const gpu = registry.get(gpuId)
      const rate = rateOf(speed)
      if (!gpu || rate === null) continue
      const make = makeOnce(gpu)
      const byOwner = byMake.get(make) ?? new Map<string, number[]>()
      byMake.set(make, byOwner)
      const rates = byOwner.get(gpu.ownerId)
      if (rates) rates.push(rate)
      else byOwner.set(gpu.ownerId, [rate])
    }
    return byMake
  }

  function ratesOf(what: string, speeds: ReadonlyMap<string, Speed>): Rates {
    if (speeds.size <= freshGpusMax) return gather(speeds)
    const last = known.get(what)
    const nowMs = clock.now()
    if (last && nowMs - last.atMs < keptMs) return last.rates
    const rates = gather(speeds)
    known.set(what, { atMs: nowMs, rates })
    return rates
  }

  return {
    /** Work a millisecond on GPUs of its make that belong to others; null: there are too few. */
    ofOthers(gpu: MarketGpu, what: string, speeds: ReadonlyMap<string, Speed>): number | null {
      const byOwner = ratesOf(what, speeds).get(makeOnce(gpu)) ?? new Map<string, number[]>()
      return usualRate([...byOwner].flatMap(([owner, own]) => (owner === gpu.ownerId ? [] : [own])))
    },

    /** Work a millisecond, for each make that enough owners have run the model on. */
    byMake(what: string, speeds: ReadonlyMap<string, Speed>): ReadonlyMap<string, number> {
      const usual = [...ratesOf(what, speeds)].map(([make, byOwner]) => [make, usualRate(byOwner.values())] as const)
      return new Map(usual.filter((entry): entry is readonly [string, number] => entry[1] !== null))
    },
  }
}
