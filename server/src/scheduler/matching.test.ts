import fc from 'fast-check'
import { expect, test } from 'vitest'
import { micros } from '@orbyte/protocol'
import { gpuId, marketGpu, orb } from '../gpus/fixture-gpus.ts'
import type { MarketGpu } from '../gpus/gpu-registry.ts'
import { wanted } from './fixture-wanted.ts'
import { chooseBest, countRejections, judgeFit, judgeNow, nearEqualShare, type Wanted } from './matching.ts'

const nowMs = 1_800_000_000_000

const anyGpu = fc
  .record({
    number: fc.integer({ min: 1, max: 200 }),
    price: fc.integer({ min: 1, max: 5_000_000 }),
    vramGb: fc.constantFrom(8, 12, 24, 80),
    kind: fc.constantFrom('gpu' as const, 'cpu' as const, 'emulated' as const),
    region: fc.constantFrom(null, 'eu', 'US'),
    connected: fc.boolean(),
    maintenance: fc.boolean(),
    busy: fc.boolean(),
    cooling: fc.boolean(),
    completed: fc.nat(50),
    failed: fc.nat(50),
    cached: fc.boolean(),
    loaded: fc.boolean(),
  })
  .map((f): MarketGpu =>
    marketGpu({
      id: gpuId(f.number),
      priceMicrosPerHour: micros(f.price),
      vramGb: f.vramGb,
      kind: f.kind,
      region: f.region,
      connected: f.connected,
      maintenance: f.maintenance,
      attemptId: f.busy ? 'att_1' : null,
      coolDownUntilMs: f.cooling ? nowMs + 1 : nowMs,
      tasksCompleted: f.completed,
      tasksFailed: f.failed,
      ownModels: ['m'],
      cachedModels: f.cached ? ['m'] : [],
      loadedModels: f.loaded ? ['m'] : [],
    }),
  )
const anyWanted = fc.record({
  minVram: fc.option(fc.constantFrom(10, 24, 48), { nil: undefined }),
  region: fc.option(fc.constantFrom('EU', 'us'), { nil: undefined }),
  kinds: fc.option(fc.constantFrom(['gpu' as const], ['gpu' as const, 'cpu' as const]), { nil: undefined }),
  max: fc.option(fc.integer({ min: 1, max: 5_000_000 })),
  failed: fc.array(fc.integer({ min: 1, max: 200 }), { maxLength: 20 }),
  model: fc.constantFrom(null, 'm'),
})
type Asked = typeof anyWanted extends fc.Arbitrary<infer T> ? T : never
const toWanted = ({ minVram, region, kinds, max, failed, model }: Asked) =>
  wanted({
    requirements: {
      ...(minVram !== undefined && { min_vram_gb: minVram }),
      ...(region !== undefined && { region }),
      ...(kinds && { kinds: [...kinds] }),
    },
    modelName: model,
    maxPriceMicrosPerHour: max === null ? null : micros(max),
    failedGpus: new Map(failed.map((number) => [gpuId(number), nowMs + 1])),
  })

test('what is chosen fits what was asked for, is free, and no fitting GPU is better than it by more than the share', () => {
  fc.assert(
    fc.property(
      fc.array(anyGpu, { maxLength: 30 }),
      anyWanted,
      fc.double({ min: 0, max: 1, noNaN: true }),
      (gpus, asked, random) => {
        const verdicts = gpus.map((gpu) => judgeNow(toWanted(asked), gpu, nowMs))
        const chosen = chooseBest(verdicts, random)
        const fitting = verdicts.filter(({ rejection }) => rejection === null)
        if (chosen === null) {
          expect(fitting).toEqual([])
          return
        }
        expect(
          chosen.connected && !chosen.maintenance && chosen.attemptId === null && chosen.coolDownUntilMs <= nowMs,
        ).toBe(true)
        expect(chosen.vramGb).toBeGreaterThanOrEqual(asked.minVram ?? 0)
        expect(chosen.priceMicrosPerHour).toBeLessThanOrEqual(asked.max ?? Infinity)
        if (asked.region) expect(chosen.region?.toLowerCase()).toBe(asked.region.toLowerCase())
        if (asked.kinds) expect(asked.kinds).toContain(chosen.kind)
        expect(asked.failed.map(gpuId)).not.toContain(chosen.id)
        const { score } = fitting.find(({ gpu }) => gpu === chosen)!
        const best = Math.max(...fitting.map((verdict) => verdict.score))
        expect(best - score).toBeLessThanOrEqual(Math.abs(best) * nearEqualShare)
      },
    ),
  )
})

test('what could take the task now could also run it at all', () => {
  fc.assert(
    fc.property(anyGpu, anyWanted, (gpu, asked) => {
      if (judgeNow(toWanted(asked), gpu, nowMs).rejection === null)
        expect(judgeFit(toWanted(asked), gpu, nowMs).rejection).toBeNull()
    }),
  )
})

test('every GPU that is rejected is counted, with a code and a sentence', () => {
  fc.assert(
    fc.property(fc.array(anyGpu, { maxLength: 30 }), anyWanted, (gpus, asked) => {
      const verdicts = gpus.map((gpu) => judgeNow(toWanted(asked), gpu, nowMs))
      const counts = countRejections(verdicts)
      const rejected = verdicts.filter(({ rejection }) => rejection !== null)
      expect(counts.reduce((sum, count) => sum + count.gpus, 0)).toBe(rejected.length)
      for (const { code, message } of counts)
        expect([code, message]).toEqual([expect.stringMatching(/^[a-z_]+$/), expect.stringMatching(/./)])
      expect(counts.map(({ gpus: count }) => count)).toEqual(
        counts.map(({ gpus: count }) => count).sort((a, b) => b - a),
      )
    }),
  )
})

const best = (...gpus: MarketGpu[]) =>
  chooseBest(
    gpus.map((gpu) => judgeNow(wanted({ modelName: 'm' }), gpu, nowMs)),
    0,
  )
const offer = (number: number, fields: Partial<MarketGpu>) =>
  marketGpu({ id: gpuId(number), ownModels: ['m'], loadedModels: ['m'], priceMicrosPerHour: orb(1), ...fields })

test('of two that are alike the cheaper is chosen', () => {
  const [cheap, dear] = [offer(1, { priceMicrosPerHour: orb(1) }), offer(2, { priceMicrosPerHour: orb(1.1) })]
  expect([best(cheap, dear), best(dear, cheap)]).toEqual([cheap, cheap])
})

test('one that has the model loaded is chosen before one that has to fetch it, unless that is much cheaper', () => {
  const loaded = offer(1, {})
  expect(best(loaded, offer(2, { loadedModels: [], priceMicrosPerHour: orb(0.9) }))).toBe(loaded)
  const bargain = offer(3, { loadedModels: [], priceMicrosPerHour: orb(0.5) })
  expect(best(loaded, bargain)).toBe(bargain)
})

test('one that ends attempts badly is chosen after one that does not, and a new one is not shut out', () => {
  const [good, bad, fresh] = [
    offer(1, { tasksCompleted: 99 }),
    offer(2, { tasksCompleted: 50, tasksFailed: 50 }),
    offer(3, {}),
  ]
  expect(best(bad, good)).toBe(good)
  expect(best(bad, offer(4, { priceMicrosPerHour: orb(0.9) }))!.id).toBe(gpuId(4))
  expect(best(fresh)).toBe(fresh)
})

test('among near-equals chance decides, so that each gets a turn', () => {
  const alike = [1, 2, 3].map((number) => offer(number, {}))
  const verdicts = alike.map((gpu) => judgeNow(wanted(), gpu, nowMs))
  const chosen = [0, 0.4, 0.99, 1].map((random) => chooseBest(verdicts, random))
  expect(chosen).toEqual([alike[0], alike[1], alike[2], alike[2]])
})

test('a GPU that has failed the task is asked again only when told to, after its cool-down', () => {
  const gpu = offer(1, {})
  const failedGpus = new Map([[gpu.id, nowMs]])
  const code = (fields: Partial<Wanted>) => judgeNow(wanted({ failedGpus, ...fields }), gpu, nowMs).rejection?.code
  expect(code({})).toBe('failed_this_task')
  expect(code({ retryFailed: true })).toBeUndefined()
  expect(code({ retryFailed: true, failedGpus: new Map([[gpu.id, nowMs + 1]]) })).toBe('failed_this_task')
})
