import fc from 'fast-check'
import { expect, test } from 'vitest'
import { micros, wholeMilli } from '@orbyte/protocol'
import { agentId, gpuId, marketGpu, numbered } from '../gpus/fixture-gpus.ts'
import type { MarketGpu } from '../gpus/gpu-registry.ts'
import { milliOn, priceOn } from './expected-cost.ts'
import { model, numbers, type Placed, searchAmong, specsWith } from './fixture-search.ts'
import { wanted } from './fixture-wanted.ts'
import type { Choice } from './gpu-search.ts'
import { judgeNow, nearEqualShare, type Wanted } from './matching.ts'

const nowMs = 1_800_000_000_000

const anyGpu = fc.record({
  agent: fc.integer({ min: 1, max: 5 }),
  model: fc.constantFrom('RTX 4090', 'A100'),
  vramGb: fc.constantFrom(8, 24, 80),
  region: fc.constantFrom(null, 'eu'),
  price: fc.oneof(fc.constantFrom(100_000, 101_000, 130_000), fc.integer({ min: 1, max: 300_000 })),
  completed: fc.nat(20),
  failed: fc.nat(5),
  auditsFailed: fc.constantFrom(0, 0, 9),
  models: fc.constantFrom<'none' | 'cached' | 'loaded'>('none', 'cached', 'loaded'),
  isShared: fc.boolean(),
  canDoAll: fc.constantFrom(true, true, false),
  freeMilli: fc.constantFrom(0, 100, 300, 650, 1_000, 1_000, 1_000),
  minPrice: fc.constantFrom(null, null, null, 120_000),
  ramGb: fc.constantFrom(16, 64),
})
type Any = typeof anyGpu extends fc.Arbitrary<infer T> ? T : never

function placed(any: Any, number: number): Placed {
  const gpu = marketGpu({
    ...numbered(number),
    sharing: any.isShared,
    ...(!any.canDoAll && { several: unable, shares: unable }),
    agentId: agentId(any.agent),
    model: any.model,
    vramGb: any.vramGb,
    region: any.region,
    priceMicrosPerHour: micros(any.price),
    tasksCompleted: any.completed,
    tasksFailed: any.failed,
    auditsFailed: any.auditsFailed,
    ownModels: ['m'],
    loadedModels: any.models === 'loaded' ? ['m', 'other'] : [],
    cachedModels: any.models === 'none' ? [] : ['m'],
    specs: specsWith(any.ramGb),
    limits: { task_types: null, models: null, min_price_per_hour: any.minPrice === null ? null : micros(any.minPrice) },
  })
  return { gpu, freeMilli: any.isShared || any.freeMilli === 1_000 ? any.freeMilli : 0 }
}

const unable = { task_types: [], model_formats: [] }

const anyWanted = fc
  .record({
    minVram: fc.constantFrom(undefined, 10, 24),
    region: fc.constantFrom(undefined, undefined, 'EU'),
    minRam: fc.constantFrom(undefined, undefined, undefined, 32),
    max: fc.constantFrom(null, null, 60_000, 101_000, 250_000),
    isModelNeeded: fc.constantFrom(false, false, true),
    failed: fc.array(fc.integer({ min: 1, max: 30 }), { maxLength: 8 }),
    size: fc.constantFrom<{ gpus: number; part: Wanted['part'] }>(
      { gpus: 1, part: null },
      { gpus: 2, part: null },
      { gpus: 3, part: null },
      { gpus: 1, part: { milli: 300, vramGb: 2 } },
      { gpus: 1, part: { milli: 50, vramGb: 20 } },
      { gpus: 1, part: { milli: 300, vramGb: 8 } },
    ),
  })
  .map(({ minVram, region, minRam, max, isModelNeeded, failed, size }): Wanted => {
    const requirements = {
      ...(minVram && { min_vram_gb: minVram }),
      ...(region && { region }),
      ...(minRam && { min_ram_gb: minRam }),
    }
    return wanted({
      key: JSON.stringify([requirements, isModelNeeded, size]),
      requirements,
      ...size,
      ...(isModelNeeded && { model, modelName: 'm' }),
      maxPriceMicrosPerHour: max === null ? null : micros(max),
      failedGpus: new Map(failed.map((number) => [gpuId(number), nowMs + 1])),
    })
  })

/** Every choice that is possible, found by trying all, and what it costs. */
function allChoices(gpus: readonly Placed[], asked: Wanted) {
  const { maxPriceMicrosPerHour: max } = asked
  const free = gpus.filter(({ gpu, freeMilli }) => {
    const isFree = asked.part === null ? freeMilli === wholeMilli : gpu.sharing && freeMilli >= milliOn(asked, gpu)
    return isFree && judgeNow(anyPrice(asked), gpu, nowMs).rejection === null
  })
  const sets = subsets(
    free.map(({ gpu }) => gpu),
    asked.gpus,
  )
  return sets.filter((set) => {
    const of = ({ agentId, model: hardware, vramGb, region, sharing, several }: MarketGpu) => [
      agentId,
      hardware,
      vramGb,
      region,
      sharing,
      several,
    ]
    const isOneMachine = new Set(set.map((gpu) => JSON.stringify(of(gpu)))).size === 1
    return isOneMachine && (max === null || set.reduce((sum, gpu) => sum + priceOn(asked, gpu), 0) <= max)
  })
}

const anyPrice = (asked: Wanted): Wanted => ({ ...asked, maxPriceMicrosPerHour: null })
const costOf = (gpus: readonly MarketGpu[], asked: Wanted) =>
  gpus.reduce((sum, gpu) => sum - judgeNow(anyPrice(asked), gpu, nowMs).score, 0)

function subsets(gpus: readonly MarketGpu[], size: number): MarketGpu[][] {
  if (size === 0) return [[]]
  return gpus.flatMap((gpu, index) => subsets(gpus.slice(index + 1), size - 1).map((rest) => [gpu, ...rest]))
}

function expectBest(choice: Choice | null, gpus: readonly Placed[], asked: Wanted) {
  const possible = allChoices(gpus, asked)
  expect(choice === null).toBe(possible.length === 0)
  if (!choice) return
  const ids = (set: readonly MarketGpu[]) => set.map(({ id }) => id).sort()
  expect(possible.map(ids)).toContainEqual(ids(choice.gpus))
  const least = Math.min(...possible.map((set) => costOf(set, asked)))
  expect(costOf(choice.gpus, asked)).toBeLessThanOrEqual(least * (1 + nearEqualShare) + 1e-9)
}

test('what is chosen fits and is free, and nothing that fits and is free costs less by more than the share', () => {
  fc.assert(
    fc.property(fc.array(anyGpu, { maxLength: 16 }), anyWanted, fc.nat(), (hardware, asked, seed) => {
      const gpus = hardware.map(placed)
      const { search } = searchAmong(gpus)
      expectBest(search.choose(asked, { nowMs, random: numbers(seed) }), gpus, asked)
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
      for (const [changes, asked] of given) {
        for (const { number, any, isGone } of changes) {
          const known = now.get(number)
          if (isGone) {
            now.delete(number)
            if (known) index.remove(known.gpu)
            continue
          }
          const next = placed(any, number)
          // As the registry does: the same object for as long as the GPU exists.
          const gpu = known ? Object.assign(known.gpu, next.gpu) : next.gpu
          now.set(number, { ...next, gpu })
          index.put(gpu, { isThere: true, ...next })
        }
        search.arrived(asked)
        expectBest(search.choose(asked, { nowMs, random }), [...now.values()], asked)
      }
    }),
    { numRuns: 1_000 },
  )
})

/** Of one profile, so that they lie in the same lanes. */
const alike = { model: 'A100', vramGb: 80, region: null, canDoAll: true, minPrice: null } as const

const anyMarket = fc.oneof(
  fc.record({ hardware: fc.array(anyGpu, { maxLength: 8 }), asked: fc.tuple(anyWanted, anyWanted) }),
  // So few, and all shared, that several tasks have parts of one, which come back one by one.
  fc.record({
    hardware: fc.array(
      anyGpu.map((any): Any => ({ ...any, isShared: true, freeMilli: 1_000 })),
      { minLength: 1, maxLength: 3 },
    ),
    asked: fc.constant([wanted({ key: 'whole' }), wanted({ key: 'part', part: { milli: 300, vramGb: 2 } })]),
  }),
)

test('that holds while a few kinds of tasks take what is chosen and give it back, again and again', () => {
  const anyTurn = fc.record({ kind: fc.nat(1), isTaken: fc.boolean(), back: fc.nat(3) })
  fc.assert(
    fc.property(anyMarket, fc.array(anyTurn, { maxLength: 40 }), ({ hardware, asked }, turns) => {
      const gpus = hardware.map((any, number) => placed({ ...any, ...alike }, number))
      const { index, search } = searchAmong(gpus)
      const now = new Map(gpus.map((each) => [each.gpu, each]))
      const taken: Choice[] = []
      const change = (choice: Choice, milli: number) => {
        for (const gpu of choice.gpus) {
          const freeMilli = now.get(gpu)!.freeMilli + milli
          now.set(gpu, { ...now.get(gpu)!, freeMilli })
          index.setFree(gpu.number, freeMilli)
        }
      }
      for (const { kind, isTaken, back } of turns) {
        const choice = search.choose(asked[kind]!, { nowMs, random: () => 0 })
        expectBest(choice, [...now.values()], asked[kind]!)
        if (choice && isTaken) {
          change(choice, -choice.milliEach)
          taken.push(choice)
        } else for (const given of taken.splice(back, 1)) change(given, given.milliEach)
      }
    }),
    { numRuns: 2_000 },
  )
})
