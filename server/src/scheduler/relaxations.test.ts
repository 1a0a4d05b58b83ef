import fc from 'fast-check'
import { expect, test } from 'vitest'
import { micros, type Model } from '@orbyte/protocol'
import { gpuId, heldBy, marketGpu, numbered, orb } from '../gpus/fixture-gpus.ts'
import type { MarketGpu } from '../gpus/gpu-registry.ts'
import { indexOf } from './fixture-listed.ts'
import { wanted } from './fixture-wanted.ts'
import { judgeFit, judgeNow, type Wanted } from './matching.ts'
import type { Relaxation } from './relaxation.ts'
import { relaxationsOf as relaxationsAmong, relaxationSentence } from './relaxations.ts'
import { surveyGpus } from './survey.ts'

const nowMs = 1_800_000_000_000
const surveyAmong = (asked: Wanted, gpus: readonly MarketGpu[], atMs: number) =>
  surveyGpus(asked, indexOf(gpus, atMs), atMs)
const relaxationsOf = (asked: Wanted, gpus: readonly MarketGpu[], atMs: number) =>
  relaxationsAmong(surveyAmong(asked, gpus, atMs), (other) => surveyAmong(other, gpus, atMs))
const withChange = (asked: Wanted, { requirements, maxPriceMicrosPerHour }: Relaxation): Wanted => ({
  ...asked,
  requirements,
  maxPriceMicrosPerHour,
})
const fitting = (asked: Wanted, gpus: readonly MarketGpu[]) =>
  gpus.filter((gpu) => judgeFit(asked, gpu, nowMs).rejection === null)

const anyGpus = fc.array(
  fc.record({
    price: fc.integer({ min: 1, max: 9 }),
    vramGb: fc.constantFrom(8, 12, 23.99, 80),
    model: fc.constantFrom('NVIDIA GeForce RTX 4090', 'NVIDIA A100', 'NVIDIA H100'),
    kind: fc.constantFrom('gpu' as const, 'cpu' as const),
    region: fc.constantFrom(null, 'eu', 'us'),
    connected: fc.boolean(),
    busy: fc.boolean(),
  }),
  { maxLength: 12 },
)
const anyWanted = fc.record({
  gpu_id: fc.option(fc.integer({ min: 1, max: 12 }), { nil: undefined }),
  gpu_model: fc.option(fc.constantFrom('4090', 'h100'), { nil: undefined }),
  min_vram_gb: fc.option(fc.constantFrom(10, 24, 48), { nil: undefined }),
  region: fc.option(fc.constantFrom('EU', 'us'), { nil: undefined }),
  kinds: fc.option(fc.constantFrom(['gpu' as const], ['cpu' as const]), { nil: undefined }),
  price: fc.option(fc.integer({ min: 1, max: 9 })),
})
const anyMarket = fc.tuple(anyWanted, anyGpus).map(([{ price, gpu_id, ...requirements }, hardware]) => ({
  asked: wanted({
    requirements: JSON.parse(
      JSON.stringify({ ...requirements, gpu_id: gpu_id === undefined ? undefined : gpuId(gpu_id) }),
    ),
    maxPriceMicrosPerHour: price === null ? null : micros(price * 100_000),
  }),
  gpus: hardware.map(({ price: gpuPrice, busy, ...fields }, index) =>
    marketGpu({
      ...fields,
      ...numbered(index + 1),
      priceMicrosPerHour: micros(gpuPrice * 100_000),
      ...(busy && heldBy('att_1')),
    }),
  ),
}))

test('whoever asks for what is offered gets as many more GPUs as it says, and as many free ones', () => {
  fc.assert(
    fc.property(anyMarket, ({ asked, gpus }) => {
      const before = fitting(asked, gpus)
      for (const relaxation of relaxationsOf(asked, gpus, nowMs)) {
        const relaxed = withChange(asked, relaxation)
        const placed = fitting(relaxed, gpus).filter((gpu) => !before.includes(gpu))
        expect(placed).toHaveLength(relaxation.gpus)
        expect(relaxation.gpus).toBeGreaterThan(0)
        const free = placed.filter((gpu) => judgeNow(relaxed, gpu, nowMs).rejection === null)
        expect(free).toHaveLength(relaxation.free)
        expect(fitting(relaxed, gpus)).toEqual(expect.arrayContaining(before))
      }
    }),
    { numRuns: 1_000 },
  )
})

test('as few wishes are given up as it takes, and every other one is kept', () => {
  const wishes = ['gpu_id', 'gpu_model', 'min_vram_gb', 'region', 'kinds', 'price'] as const
  const without = (asked: Wanted, given: readonly (typeof wishes)[number][]): Wanted => {
    const requirements = Object.fromEntries(
      Object.entries(asked.requirements).filter(([name]) => !given.includes(name as (typeof wishes)[number])),
    )
    return {
      ...asked,
      requirements,
      maxPriceMicrosPerHour: given.includes('price') ? null : asked.maxPriceMicrosPerHour,
    }
  }
  const changed = (asked: Wanted, { requirements, maxPriceMicrosPerHour }: Relaxation) =>
    wishes.filter((wish) =>
      wish === 'price'
        ? maxPriceMicrosPerHour !== asked.maxPriceMicrosPerHour
        : JSON.stringify(requirements[wish]) !== JSON.stringify(asked.requirements[wish]),
    )
  fc.assert(
    fc.property(anyMarket, ({ asked, gpus }) => {
      const before = fitting(asked, gpus).length
      const found = relaxationsOf(asked, gpus, nowMs)
      const helpsAlone = wishes.filter((wish) => fitting(without(asked, [wish]), gpus).length > before)
      if (helpsAlone.length > 0)
        expect(new Set(found.flatMap((one) => changed(asked, one)))).toEqual(new Set(helpsAlone))
      for (const one of found) expect(changed(asked, one).length).toBe(changed(asked, found[0]!).length)
      const helpsWithTwo = wishes.some((one) =>
        wishes.some((other) => fitting(without(asked, [one, other]), gpus).length > before),
      )
      if (helpsAlone.length === 0 && helpsWithTwo) expect(changed(asked, found[0]!)).toHaveLength(2)
    }),
    { numRuns: 1_000 },
  )
})

test('no smaller rise of the price and no smaller loss of VRAM would do', () => {
  const gpus = [
    { ...numbered(1), priceMicrosPerHour: orb(0.54), vramGb: 48 },
    { ...numbered(2), priceMicrosPerHour: orb(0.9), vramGb: 48 },
    { ...numbered(3), priceMicrosPerHour: orb(3), vramGb: 48 },
    { ...numbered(4), priceMicrosPerHour: orb(0.1), vramGb: 22 },
    { ...numbered(5), priceMicrosPerHour: orb(0.1), vramGb: 8 },
  ].map((fields) => marketGpu(fields))
  const asked = wanted({ requirements: { min_vram_gb: 24 }, maxPriceMicrosPerHour: orb(0.5) })
  const found = relaxationsOf(asked, gpus, nowMs)
  expect(found.map(({ message, gpus: count, free }) => [message, count, free])).toEqual([
    ['+0.4 ORB an hour', 2, 2],
    ['+0.04 ORB an hour', 1, 1],
    ['2 GiB less VRAM', 1, 1],
  ])
  expect(relaxationSentence(found)).toBe(
    ' It could run with +0.4 ORB an hour (2 GPUs), or +0.04 ORB an hour (1 GPU), or 2 GiB less VRAM (1 GPU).',
  )
})

test('what a model needs cannot be given up', () => {
  const model = { name: 'm', vram_gb: 16, task_type: 'text_generation', format: 'gguf' } as unknown as Model
  const asked = wanted({ requirements: { min_vram_gb: 24 }, model, modelName: 'm' })
  expect(relaxationsOf(asked, [marketGpu({ vramGb: 12, ownModels: ['m'] })], nowMs)).toEqual([])
  expect(relaxationsOf(asked, [marketGpu({ vramGb: 20, ownModels: ['m'] })], nowMs)).toMatchObject([
    { requirements: { min_vram_gb: 20 } },
  ])
})

test('where everything fits, or nothing that the renter could give up would help, nothing is offered', () => {
  expect(relaxationsOf(wanted(), [marketGpu()], nowMs)).toEqual([])
  expect(relaxationsOf(wanted({ requirements: { region: 'eu' } }), [marketGpu({ connected: false })], nowMs)).toEqual(
    [],
  )
  expect(relaxationSentence([])).toBe('')
})
