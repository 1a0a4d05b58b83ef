import fc from 'fast-check'
import { expect, test } from 'vitest'
import { micros, Requirements, wholeMilli } from '@orbyte/protocol'
import { agentId, heldBy, marketGpu, numbered, orb } from '../gpus/fixture-gpus.ts'
import type { MarketGpu } from '../gpus/gpu-registry.ts'
import { indexOf } from './fixture-listed.ts'
import { GpuSearch } from './gpu-search.ts'
import { type Wanted, wantedOf } from './matching.ts'
import { relaxationsOf as relaxationsAmong } from './relaxations.ts'
import { fittingGpus, fittingNumbers, isFree, priceAt, surveyGpus } from './survey.ts'

// Explanations and relaxations of tasks that want several GPUs or a share, held against what the matcher does.

const nowMs = 1_800_000_000_000

const anyGpus = fc
  .array(
    fc.record({
      agent: fc.integer({ min: 1, max: 3 }),
      price: fc.integer({ min: 1, max: 9 }),
      vramGb: fc.constantFrom(8, 24, 80),
      model: fc.constantFrom('RTX 4090', 'A100'),
      region: fc.constantFrom(null, 'eu'),
      sharing: fc.boolean(),
      connected: fc.constantFrom(true, true, false),
      takenMilli: fc.constantFrom(0, 0, 250, 600, wholeMilli),
    }),
    { maxLength: 10 },
  )
  .map((hardware) =>
    hardware.map(({ agent, price, takenMilli, ...fields }, index) =>
      marketGpu({
        ...fields,
        ...numbered(index + 1),
        agentId: agentId(agent),
        priceMicrosPerHour: micros(price * 100_001),
        ...(takenMilli > 0 && heldBy('att_1', fields.sharing ? takenMilli : wholeMilli)),
      }),
    ),
  )
const anyWanted = fc
  .record({
    size: fc.constantFrom(
      { gpu_count: 2 },
      { gpu_count: 3 },
      { gpu_milli: 50 },
      { gpu_milli: 300 },
      { gpu_milli: 900 },
    ),
    min_vram_gb: fc.constantFrom(2, 8, 20, 90),
    gpu_model: fc.constantFrom(undefined, undefined, '4090', 'h100'),
    region: fc.constantFrom(undefined, undefined, 'EU'),
    price: fc.option(fc.integer({ min: 1, max: 3_000_000 })),
  })
  .map(({ size, price, ...fields }): Wanted => {
    const requirements = Requirements.parse(JSON.parse(JSON.stringify({ ...fields, ...size })))
    const max_price_per_hour = price === null ? null : micros(price)
    return wantedOf({ task_type: 'text_generation', requirements, model: null, max_price_per_hour }, null)
  })

const survey = (asked: Wanted, gpus: readonly MarketGpu[]) => surveyGpus(asked, indexOf(gpus, nowMs), nowMs)
const chosen = (asked: Wanted, gpus: readonly MarketGpu[]) =>
  new GpuSearch(indexOf(gpus, nowMs)).choose(asked, { nowMs, random: () => 0 })
const idle = (gpus: readonly MarketGpu[]) => gpus.map((gpu) => ({ ...gpu, holders: [], takenMilli: 0 }))
const relaxationsOf = (asked: Wanted, gpus: readonly MarketGpu[]) =>
  relaxationsAmong(survey(asked, gpus), (other) => survey(other, gpus))
const withChange = (
  asked: Wanted,
  { requirements, maxPriceMicrosPerHour }: ReturnType<typeof relaxationsOf>[number],
) => {
  // As the API takes it.
  const asking = { requirements: Requirements.parse(requirements), max_price_per_hour: maxPriceMicrosPerHour }
  return wantedOf({ task_type: asked.taskType, model: null, ...asking }, null)
}

test('an explanation says that something fits, and that it is free, exactly where the matcher finds it', () => {
  fc.assert(
    fc.property(anyWanted, anyGpus, (asked, gpus) => {
      const found = survey(asked, gpus)
      const numbers = fittingNumbers(found)
      expect(found.free > 0).toBe(chosen(asked, gpus) !== null)
      expect(found.fits > 0).toBe(chosen(asked, idle(gpus)) !== null)
      expect(numbers).toHaveLength(found.fits)
      expect(numbers.filter((number) => isFree(number, found))).toHaveLength(found.free)
      for (const number of numbers)
        expect(priceAt(number, found)).toBeLessThanOrEqual(asked.maxPriceMicrosPerHour ?? Infinity)
    }),
    { numRuns: 2_000 },
  )
})

test('whoever asks for what is offered is placed, on as many more GPUs as it says, and as many that are free', () => {
  fc.assert(
    fc.property(anyWanted, anyGpus, (asked, gpus) => {
      const before = new Set(Array.from(fittingGpus(survey(asked, gpus)), ({ id }) => id))
      for (const relaxation of relaxationsOf(asked, gpus)) {
        const relaxed = withChange(asked, relaxation)
        const after = survey(relaxed, gpus)
        const more = fittingNumbers(after).filter((number) => !before.has(after.index.gpu(number).id))
        expect(more).toHaveLength(relaxation.gpus)
        expect(relaxation.gpus).toBeGreaterThan(0)
        expect(more.filter((number) => isFree(number, after))).toHaveLength(relaxation.free)
        expect(chosen(relaxed, idle(gpus))).not.toBeNull()
        if (relaxation.free > 0) expect(chosen(relaxed, gpus)).not.toBeNull()
      }
    }),
    { numRuns: 1_000 },
  )
})

const machine = (agent: number, ...prices: number[]) =>
  prices.map((price, index) =>
    marketGpu({ ...numbered(agent * 10 + index), agentId: agentId(agent), vramGb: 24, priceMicrosPerHour: orb(price) }),
  )
const asking = (requirements: Requirements, max: number) =>
  wantedOf({ task_type: 'text_generation', requirements, model: null, max_price_per_hour: orb(max) }, null)
const messages = (asked: Wanted, gpus: readonly MarketGpu[]) => relaxationsOf(asked, gpus).map(({ message }) => message)

test('who wants too many GPUs is told how many there are together, and what they cost', () => {
  const gpus = [...machine(1, 1, 1, 1), ...machine(2, 1)]
  expect(messages(asking({ gpu_count: 4 }, 9), gpus)).toEqual(['3 GPUs instead of 4'])
  expect(messages(asking({ gpu_count: 3 }, 2.5), gpus)).toEqual(['2 GPUs instead of 3', '+0.5 ORB an hour'])
  expect(messages(asking({ gpu_count: 3, region: 'eu' }, 2.5), gpus)).toContain(
    'any region instead of eu and +0.5 ORB an hour',
  )
})

test('who wants a share that is too dear is told of a smaller one, of less VRAM, and of what it costs', () => {
  const gpus = machine(1, 1).map((gpu) => ({ ...gpu, sharing: true }))
  expect(messages(asking({ gpu_milli: 500, min_vram_gb: 2 }, 0.3), gpus)).toEqual([
    '30 % of a GPU instead of 50 %',
    '+0.2 ORB an hour',
  ])
  expect(messages(asking({ gpu_milli: 100, min_vram_gb: 12 }, 0.3), gpus)).toEqual([
    '4.8 GiB less VRAM',
    '+0.2 ORB an hour',
  ])
  expect(messages(asking({ gpu_milli: 100, min_vram_gb: 2 }, 1), machine(1, 1))).toEqual([
    'a whole GPU instead of a share',
  ])
})
