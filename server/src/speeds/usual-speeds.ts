import type { Clock } from '../context.ts'
import { normaliseGpuName } from '../gpus/gpu-names.ts'
import type { GpuRegistry, MarketGpu } from '../gpus/gpu-registry.ts'
import { rateOf, type Speed, usualRate } from './speed-estimate.ts'

type Hardware = Pick<MarketGpu, 'kind' | 'model'>
type OwnersRates = { readonly atMs: number; readonly byOwner: ReadonlyMap<string, readonly number[]> }

/** Up to so many GPUs what is usual is worked out each time; of more, once a minute. */
const freshGpusMax = 200
const keptMs = 60_000

/** What GPUs of a kind usually do with a model. `speeds`: of all GPUs with that model, by id. */
export function createUsualSpeeds(clock: Pick<Clock, 'now'>, registry: GpuRegistry) {
  const names = new Map<string, string>()
  const known = new Map<string, OwnersRates>()

  function hardwareOf({ kind, model }: Hardware): string {
    const name = names.get(model) ?? normaliseGpuName(model)
    names.set(model, name)
    return `${kind} ${name}`
  }

  function ratesByOwner(hardware: string, speeds: ReadonlyMap<string, Speed>): OwnersRates['byOwner'] {
    const byOwner = new Map<string, number[]>()
    for (const [gpuId, speed] of speeds) {
      const gpu = registry.get(gpuId)
      const rate = rateOf(speed)
      if (!gpu || rate === null || hardwareOf(gpu) !== hardware) continue
      const rates = byOwner.get(gpu.ownerId)
      if (rates) rates.push(rate)
      else byOwner.set(gpu.ownerId, [rate])
    }
    return byOwner
  }

  /** Work a millisecond on GPUs of this kind that belong to others; null: there are too few. `what`: names `speeds`. */
  return ({ ownerId, ...gpu }: MarketGpu, what: string, speeds: ReadonlyMap<string, Speed>): number | null => {
    const hardware = hardwareOf(gpu)
    const key = `${hardware} ${what}`
    const nowMs = clock.now()
    const last = known.get(key)
    const isFresh = last !== undefined && speeds.size > freshGpusMax && nowMs - last.atMs < keptMs
    const rates = isFresh ? last : { atMs: nowMs, byOwner: ratesByOwner(hardware, speeds) }
    if (speeds.size > freshGpusMax) known.set(key, rates)
    return usualRate([...rates.byOwner].flatMap(([owner, own]) => (owner === ownerId ? [] : [own])))
  }
}
