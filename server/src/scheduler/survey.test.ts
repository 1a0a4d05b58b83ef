import fc from 'fast-check'
import { expect, test } from 'vitest'
import { micros } from '@orbyte/protocol'
import { gpuId, heldBy, marketGpu, numbered } from '../gpus/fixture-gpus.ts'
import type { MarketGpu } from '../gpus/gpu-registry.ts'
import { indexOf } from './fixture-listed.ts'
import { wanted } from './fixture-wanted.ts'
import { countRejections, judgeFit, judgeNow, rejectionsOf, type Wanted } from './matching.ts'
import { bestOf, fittingGpus, rejectionCounts, surveyGpus, whyNotNow } from './survey.ts'

const nowMs = 1_800_000_000_000
const anyGpu = fc.record({
  price: fc.integer({ min: 1, max: 9 }),
  vramGb: fc.constantFrom(8, 24),
  region: fc.constantFrom(null, 'eu'),
  connected: fc.boolean(),
  busy: fc.boolean(),
  failed: fc.nat(3),
  models: fc.constantFrom<string[]>([], ['m']),
  offers: fc.boolean(),
  sharing: fc.boolean(),
})
type Any = typeof anyGpu extends fc.Arbitrary<infer T> ? T : never
const gpuOf = ({ price, busy, failed, models, offers, ...fields }: Any, index: number): MarketGpu =>
  marketGpu({
    ...fields,
    ...numbered(index + 1),
    priceMicrosPerHour: micros(price * 1_000),
    ...(busy && heldBy('att_1')),
    tasksFailed: failed,
    ownModels: ['m'],
    loadedModels: models,
    taskTypes: offers ? ['text_generation'] : [],
  })
const anyWanted = fc
  .record({
    gpu: fc.constantFrom(undefined, undefined, 1, 2),
    vram: fc.constantFrom(undefined, 20),
    region: fc.constantFrom(undefined, 'eu'),
    max: fc.constantFrom(null, 4_000),
    model: fc.constantFrom(null, 'm', 'other'),
    part: fc.constantFrom(null, null, { milli: 500, vramGb: 2 }),
  })
  .map(({ gpu, vram, region, max, model, part }): Wanted => {
    const requirements = {
      ...(gpu && { gpu_id: gpuId(gpu) }),
      ...(vram && { min_vram_gb: vram }),
      ...(region && { region }),
    }
    return wanted({ requirements, part, modelName: model, maxPriceMicrosPerHour: max === null ? null : micros(max) })
  })

test('a survey by profiles says of every GPU what the ranker chain says of it', () => {
  fc.assert(
    fc.property(fc.array(anyGpu, { maxLength: 20 }), anyWanted, (hardware, asked) => {
      const gpus = hardware.map(gpuOf)
      const index = indexOf(gpus, nowMs)
      // One of a profile of its own has been there and is gone.
      const gone = marketGpu({ ...numbered(99), region: 'elsewhere' })
      index.put(gone, { isThere: true, freeMilli: 1_000 })
      index.remove(gone)
      const survey = surveyGpus(asked, index, nowMs)
      const verdicts = gpus.map((gpu) => judgeFit(asked, gpu, nowMs))
      const fits = verdicts.filter(({ rejection }) => rejection === null)
      expect(survey.gpus).toBe(gpus.length)
      const fitting = [...fittingGpus(survey)]
      expect(survey.fits).toBe(fitting.length)
      expect(fitting).toHaveLength(fits.length)
      expect(new Set(fitting)).toEqual(new Set(fits.map(({ gpu }) => gpu)))
      const now = fitting.map((gpu) => judgeNow(asked, gpu, nowMs).rejection)
      expect(whyNotNow(survey)).toEqual(now)
      expect(survey.free).toBe(now.filter((rejection) => rejection === null).length)
      for (const { codes, classes } of survey.rejected)
        for (const number of classes.flatMap((one) => one.numbers))
          expect(rejectionsOf(asked, index.gpu(number), nowMs).map(({ code }) => code)).toEqual(codes)
      expect(rejectionCounts(survey)).toEqual(countRejections(verdicts.map(({ rejection }) => rejection)))
      const costOn = (gpu: MarketGpu) => -judgeFit(asked, gpu, nowMs).score
      const costs = fitting.map(costOn).sort((a, b) => a - b)
      expect(bestOf(survey, 3).map(({ gpu }) => costOn(gpu))).toEqual(costs.slice(0, 3))
    }),
    { numRuns: 1_000 },
  )
})
