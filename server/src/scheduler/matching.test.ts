import fc from 'fast-check'
import { expect, test } from 'vitest'
import { micros } from '@orbyte/protocol'
import { gpuId, heldBy, marketGpu, orb } from '../gpus/fixture-gpus.ts'
import type { MarketGpu } from '../gpus/gpu-registry.ts'
import { wanted } from './fixture-wanted.ts'
import { milliOn, vramGbOf } from './expected-cost.ts'
import { countRejections, judgeFit, judgeNow, type Wanted } from './matching.ts'

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
      ...(f.busy && heldBy('att_1')),
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

test('what could take the task now is there, is free, and is what was asked for', () => {
  fc.assert(
    fc.property(anyGpu, anyWanted, (gpu, asked) => {
      if (judgeNow(toWanted(asked), gpu, nowMs).rejection !== null) return
      expect([gpu.connected, gpu.maintenance, gpu.takenMilli]).toEqual([true, false, 0])
      expect(gpu.coolDownUntilMs).toBeLessThanOrEqual(nowMs)
      expect(gpu.vramGb).toBeGreaterThanOrEqual(asked.minVram ?? 0)
      expect(gpu.priceMicrosPerHour).toBeLessThanOrEqual(asked.max ?? Infinity)
      if (asked.region) expect(gpu.region?.toLowerCase()).toBe(asked.region.toLowerCase())
      if (asked.kinds) expect(asked.kinds).toContain(gpu.kind)
      expect(asked.failed.map(gpuId)).not.toContain(gpu.id)
    }),
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
      const counts = countRejections(verdicts.map(({ rejection }) => rejection))
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

const offer = (number: number, fields: Partial<MarketGpu>) =>
  marketGpu({ id: gpuId(number), ownModels: ['m'], loadedModels: ['m'], priceMicrosPerHour: orb(1), ...fields })
const costOn = (gpu: MarketGpu, fields: Partial<Wanted> = {}) =>
  -judgeNow(wanted({ modelName: 'm', ...fields }), gpu, nowMs).score

test('a fast dear GPU can beat a slow cheap one, and one with the model at hand one that has to fetch it: as measured', () => {
  const [slow, fast] = [offer(1, { model: 'RTX 3060' }), offer(2, { model: 'H100', priceMicrosPerHour: orb(3) })]
  expect(costOn(fast)).toBeGreaterThan(costOn(slow))
  const runMs: NonNullable<Wanted['timings']>['runMs'] = (_wanted, { model }) => (model === 'H100' ? 10_000 : 60_000)
  expect(costOn(fast, { timings: { runMs, loadMs: () => null } })).toBeLessThan(costOn(slow))

  const cold = offer(3, { loadedModels: [], cachedModels: ['m'], priceMicrosPerHour: orb(0.9) })
  expect(costOn(cold)).toBeLessThan(costOn(slow))
  const loadMs: NonNullable<Wanted['timings']>['loadMs'] = (_wanted, _gpu, warmth) => (warmth === 'loaded' ? 0 : 60_000)
  expect(costOn(cold, { timings: { runMs: () => null, loadMs } })).toBeGreaterThan(costOn(slow))
})

test('what is over at once still costs more on a dear GPU than on a cheap one', () => {
  const timings = { runMs: () => 0, loadMs: () => 0 }
  const [cheap, dear] = [offer(1, {}), offer(2, { priceMicrosPerHour: orb(2) })]
  expect(costOn(cheap, { timings })).toBeLessThan(0.51 * costOn(dear, { timings }))
})

test('one on trial comes after any other, even where it is free of charge and has the model and the other does not', () => {
  const trial = offer(1, { priceMicrosPerHour: orb(0), failuresInARow: 3 })
  const other = offer(2, { priceMicrosPerHour: orb(10), loadedModels: [] })
  const timings = {
    runMs: () => 0,
    loadMs: (_wanted: Wanted, _gpu: MarketGpu, warmth: string) => (warmth === 'loaded' ? 0 : 60_000),
  }
  expect(costOn(trial, { timings })).toBeGreaterThan(costOn(other, { timings }))
})

test('part of a GPU is the larger of its share of time and of VRAM, and costs that share', () => {
  const gpu = offer(1, { vramGb: 24, sharing: true, ownModels: [], modelFormats: ['gguf'] })
  const of = (milli: number, vramGb: number) => milliOn(wanted({ part: { milli, vramGb } }), gpu)
  expect([of(500, 6), of(100, 6), of(100, 24)]).toEqual([500, 250, 1_000])
  const plain = { model: null, modelName: null }
  expect(costOn(gpu, { ...plain, part: { milli: 250, vramGb: 0 } })).toBeCloseTo(costOn(gpu, plain) / 4)
  expect(judgeNow(wanted({ part: { milli: 100, vramGb: 25 } }), gpu, nowMs).rejection?.code).toBe('vram_too_small')
})

test('who asks for 24 GB gets an RTX 4090, a model has to fit into what tasks can have, and shares are shares of that', () => {
  const gpu = offer(1, { vramGb: 23.99, usableVramGb: 23, sharing: true, modelFormats: ['gguf'] })
  const code = (fields: Partial<Wanted>) => judgeNow(wanted(fields), gpu, nowMs).rejection?.code
  const model = (vram_gb: number) => ({ ...wanted({}).model!, vram_gb })
  expect(code({ requirements: { min_vram_gb: 24 } })).toBeUndefined()
  expect(code({ requirements: { min_vram_gb: 26 } })).toBe('vram_too_small')
  expect(code({ model: model(23) })).toBeUndefined()
  expect(code({ model: model(23.5) })).toBe('vram_too_small')
  expect(code({ part: { milli: 100, vramGb: 23 } })).toBeUndefined()
  expect(code({ part: { milli: 100, vramGb: 23.5 } })).toBe('vram_too_small')
  expect(milliOn(wanted({ part: { milli: 100, vramGb: 11.5 } }), gpu)).toBe(500)
})

test('as many shares fit into a GPU as their processes leave room for', () => {
  const gpu = offer(1, { vramGb: 24, usableVramGb: 23, processVramGb: 0.6 })
  const of = (vramGb: number) => milliOn(wanted({ part: { milli: 1, vramGb } }), gpu)
  expect([of(23), of(11.2), of(5.3), of(0.1)]).toEqual([1_000, 500, 250, 30])
  for (const milli of [30, 250, 500, 1_000]) expect(of(Math.floor(vramGbOf(milli, gpu) * 100) / 100)).toBe(milli)
})

test('a GPU that has failed the task is asked again only when told to, after its cool-down', () => {
  const gpu = offer(1, {})
  const failedGpus = new Map([[gpu.id, nowMs]])
  const code = (fields: Partial<Wanted>) => judgeNow(wanted({ failedGpus, ...fields }), gpu, nowMs).rejection?.code
  expect(code({})).toBe('failed_this_task')
  expect(code({ retryFailed: true })).toBeUndefined()
  expect(code({ retryFailed: true, failedGpus: new Map([[gpu.id, nowMs + 1]]) })).toBe('failed_this_task')
})
