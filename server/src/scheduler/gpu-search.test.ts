import fc from 'fast-check'
import { expect, test } from 'vitest'
import { micros } from '@orbyte/protocol'
import { agentId, gpuId, marketGpu } from '../gpus/fixture-gpus.ts'
import type { MarketGpu } from '../gpus/gpu-registry.ts'
import { GpuIndex } from './gpu-index.ts'
import { type Choice, GpuSearch } from './gpu-search.ts'
import { judgeNow, milliOn, nearEqualShare, priceOn, type Wanted } from './matching.ts'
import { wholeMilli } from './packing.ts'

const nowMs = 1_800_000_000_000

const anyGpu = fc.record({
  agent: fc.integer({ min: 1, max: 5 }),
  model: fc.constantFrom('RTX 4090', 'A100'),
  vramGb: fc.constantFrom(8, 24, 80),
  region: fc.constantFrom(null, 'eu'),
  price: fc.oneof(fc.constantFrom(100_000, 101_000, 130_000), fc.integer({ min: 1, max: 300_000 })),
  completed: fc.nat(20),
  failed: fc.nat(5),
  models: fc.constantFrom<'none' | 'cached' | 'loaded'>('none', 'cached', 'loaded'),
  isShared: fc.boolean(),
  freeMilli: fc.constantFrom(0, 100, 300, 650, 1_000, 1_000, 1_000),
  minPrice: fc.constantFrom(null, null, null, 120_000),
})
type Any = typeof anyGpu extends fc.Arbitrary<infer T> ? T : never
type Placed = { readonly gpu: MarketGpu; readonly freeMilli: number; readonly isShared: boolean }

function placed(any: Any, number: number): Placed {
  const gpu = marketGpu({
    id: gpuId(number),
    agentId: agentId(any.agent),
    model: any.model,
    vramGb: any.vramGb,
    region: any.region,
    priceMicrosPerHour: micros(any.price),
    tasksCompleted: any.completed,
    tasksFailed: any.failed,
    ownModels: ['m'],
    loadedModels: any.models === 'loaded' ? ['m', 'other'] : [],
    cachedModels: any.models === 'none' ? [] : ['m'],
    limits: { task_types: null, models: null, min_price_per_hour: any.minPrice === null ? null : micros(any.minPrice) },
  })
  return { gpu, isShared: any.isShared, freeMilli: any.isShared || any.freeMilli === 1_000 ? any.freeMilli : 0 }
}

const anyWanted = fc
  .record({
    minVram: fc.constantFrom(undefined, 10, 24),
    region: fc.constantFrom(undefined, undefined, 'EU'),
    max: fc.constantFrom(null, null, 60_000, 101_000, 250_000),
    model: fc.constantFrom(null, null, 'm'),
    failed: fc.array(fc.integer({ min: 1, max: 30 }), { maxLength: 8 }),
    size: fc.constantFrom<{ gpus: number; part: Wanted['part'] }>(
      { gpus: 1, part: null },
      { gpus: 2, part: null },
      { gpus: 3, part: null },
      { gpus: 1, part: { milli: 300, vramGb: 2 } },
      { gpus: 1, part: { milli: 50, vramGb: 20 } },
    ),
  })
  .map(({ minVram, region, max, model, failed, size }): Wanted => {
    const requirements = { ...(minVram && { min_vram_gb: minVram }), ...(region && { region }) }
    return {
      key: JSON.stringify([requirements, model, size]),
      taskType: 'text_generation',
      requirements,
      ...size,
      model: null,
      modelName: model,
      maxPriceMicrosPerHour: max === null ? null : micros(max),
      timings: null,
      failedGpus: new Map(failed.map((number) => [gpuId(number), nowMs + 1])),
      retryFailed: false,
    }
  })

/** Every choice that is possible, found by trying all, and what it costs. */
function allChoices(gpus: readonly Placed[], wanted: Wanted) {
  const { maxPriceMicrosPerHour: max } = wanted
  const free = gpus.filter(({ gpu, freeMilli, isShared }) => {
    const isFree = wanted.part === null ? freeMilli === wholeMilli : isShared && freeMilli >= milliOn(wanted, gpu)
    return isFree && judgeNow(anyPrice(wanted), gpu, nowMs).rejection === null
  })
  const sets = subsets(
    free.map(({ gpu }) => gpu),
    wanted.gpus,
  )
  return sets.filter((set) => {
    const of = ({ agentId, model, vramGb, region, limits }: MarketGpu) => [
      agentId,
      model,
      vramGb,
      region,
      limits.models,
    ]
    const isOneMachine = new Set(set.map((gpu) => JSON.stringify(of(gpu)))).size === 1
    return isOneMachine && (max === null || set.reduce((sum, gpu) => sum + priceOn(wanted, gpu), 0) <= max)
  })
}

const anyPrice = (wanted: Wanted): Wanted => ({ ...wanted, maxPriceMicrosPerHour: null })
const costOf = (gpus: readonly MarketGpu[], wanted: Wanted) =>
  gpus.reduce((sum, gpu) => sum - judgeNow(anyPrice(wanted), gpu, nowMs).score, 0)

function subsets(gpus: readonly MarketGpu[], size: number): MarketGpu[][] {
  if (size === 0) return [[]]
  return gpus.flatMap((gpu, index) => subsets(gpus.slice(index + 1), size - 1).map((rest) => [gpu, ...rest]))
}

function searchAmong(gpus: readonly Placed[]) {
  const index = new GpuIndex()
  for (const { gpu, ...availability } of gpus) index.put(gpu, availability)
  return { index, search: new GpuSearch(index) }
}

/** Numbers from 0 to below 1, the same for the same seed. */
function numbers(seed: number) {
  let state = seed
  return () => (state = (state * 16_807 + 11) % 2_147_483_647) / 2_147_483_647
}

function expectBest(choice: Choice | null, gpus: readonly Placed[], wanted: Wanted) {
  const possible = allChoices(gpus, wanted)
  expect(choice === null).toBe(possible.length === 0)
  if (!choice) return
  const ids = (set: readonly MarketGpu[]) => set.map(({ id }) => id).sort()
  expect(possible.map(ids)).toContainEqual(ids(choice.gpus))
  const least = Math.min(...possible.map((set) => costOf(set, wanted)))
  expect(costOf(choice.gpus, wanted)).toBeLessThanOrEqual(least * (1 + nearEqualShare) + 1e-9)
}

test('what is chosen fits and is free, and nothing that fits and is free costs less by more than the share', () => {
  fc.assert(
    fc.property(fc.array(anyGpu, { maxLength: 16 }), anyWanted, fc.nat(), (hardware, wanted, seed) => {
      const gpus = hardware.map(placed)
      const { search } = searchAmong(gpus)
      expectBest(search.choose(wanted, { nowMs, random: numbers(seed) }), gpus, wanted)
    }),
    { numRuns: 2_000 },
  )
})

test('that holds after any sequence of changes: taken, given back, changed, removed', () => {
  const anyChange = fc.record({ number: fc.nat(15), any: anyGpu, isGone: fc.constantFrom(false, false, true) })
  const turns = fc.array(fc.tuple(fc.array(anyChange, { maxLength: 8 }), anyWanted), { minLength: 1, maxLength: 8 })
  fc.assert(
    fc.property(turns, fc.nat(), (given, seed) => {
      const random = numbers(seed)
      const { index, search } = searchAmong([])
      const now = new Map<number, Placed>()
      for (const [changes, wanted] of given) {
        for (const { number, any, isGone } of changes) {
          const known = now.get(number)
          if (isGone) {
            now.delete(number)
            index.remove(gpuId(number))
            continue
          }
          const next = placed(any, number)
          // As the registry does: the same object for as long as the GPU exists.
          const gpu = known ? Object.assign(known.gpu, next.gpu) : next.gpu
          now.set(number, { ...next, gpu })
          index.put(gpu, next)
        }
        search.arrived(wanted)
        expectBest(search.choose(wanted, { nowMs, random }), [...now.values()], wanted)
      }
    }),
    { numRuns: 1_000 },
  )
})
