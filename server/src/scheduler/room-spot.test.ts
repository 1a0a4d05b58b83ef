import fc from 'fast-check'
import { expect, test } from 'vitest'
import { micros, wholeMilli } from '@orbyte/protocol'
import { marketGpu, numbered } from '../gpus/fixture-gpus.ts'
import type { MarketGpu } from '../gpus/gpu-registry.ts'
import { wanted } from './fixture-wanted.ts'
import { milliFreeAt, momentOf, type Occupant, soonestSpot } from './room-spot.ts'

const nowMs = 1_800_000_000_000
const held = (milli: number, expectedMs: number, latestMs = expectedMs): Occupant => {
  return { milli, expectedEndMs: nowMs + expectedMs, latestEndMs: nowMs + latestMs }
}
/** GPUs of which each is held as is said. */
function gpusHeld(...all: Occupant[][]) {
  const gpus = all.map((_, at) =>
    marketGpu({ ...numbered(at + 1), vramGb: 100, priceMicrosPerHour: micros(100 * (at + 1)) }),
  )
  return { gpus, at: { nowMs, occupantsOf: (gpu: MarketGpu) => all[gpus.indexOf(gpu)]! } }
}
const numbersOf = (gpus: readonly MarketGpu[], of: readonly MarketGpu[]) => gpus.map((gpu) => of.indexOf(gpu))

test('several GPUs are together once the last of them is free, and those are taken that are free soonest', () => {
  const { gpus, at } = gpusHeld([held(1_000, 50)], [held(1_000, 10, 90)], [], [held(1_000, 30)])
  const spot = soonestSpot([gpus], wanted({ gpus: 3 }), at)!
  expect(numbersOf(spot.gpus, gpus)).toEqual([2, 1, 3])
  expect(spot).toMatchObject({ milliEach: wholeMilli, expectedAtMs: nowMs + 30, latestAtMs: nowMs + 90 })
})

test('a part is there once enough of those that share the GPU have ended', () => {
  const { gpus, at } = gpusHeld([held(300, 40), held(500, 20, 60), held(100, 10)])
  const spotOf = (milli: number) => soonestSpot([gpus], wanted({ part: { milli, vramGb: 1 } }), at)
  expect(spotOf(100)).toMatchObject({ expectedAtMs: nowMs, latestAtMs: nowMs })
  expect(spotOf(200)).toMatchObject({ expectedAtMs: nowMs + 10, latestAtMs: nowMs + 10 })
  expect(spotOf(700)).toMatchObject({ expectedAtMs: nowMs + 20, latestAtMs: nowMs + 60 })
  expect(soonestSpot([gpus], wanted(), at)).toMatchObject({ expectedAtMs: nowMs + 40, latestAtMs: nowMs + 60 })
})

test('what costs too much is no room for it: then the cheapest together are, or nothing', () => {
  const { gpus, at } = gpusHeld([held(1_000, 90)], [held(1_000, 50)], [], [])
  const spotUpTo = (price: number) => soonestSpot([gpus], wanted({ gpus: 2, maxPriceMicrosPerHour: micros(price) }), at)
  expect(numbersOf(spotUpTo(700)!.gpus, gpus)).toEqual([2, 3])
  expect(numbersOf(spotUpTo(300)!.gpus, gpus)).toEqual([0, 1])
  expect(spotUpTo(299)).toBeNull()
})

test('a GPU that cools down is not there before', () => {
  const gpu = marketGpu({ coolDownUntilMs: nowMs + 70 })
  expect(soonestSpot([[gpu]], wanted(), { nowMs, occupantsOf: () => [] })).toMatchObject({ expectedAtMs: nowMs + 70 })
})

test('of any machines none has room sooner than the one that is found, and there is as much then as is wanted', () => {
  const anyOccupant = fc
    .record({ milli: fc.constantFrom(100, 200, 250), expected: fc.nat(50), more: fc.nat(50) })
    .map(({ milli, expected, more }) => held(milli, expected, expected + more))
  const anyMachines = fc.array(fc.array(fc.array(anyOccupant, { maxLength: 4 }), { minLength: 1, maxLength: 4 }), {
    minLength: 1,
    maxLength: 3,
  })
  fc.assert(
    fc.property(anyMachines, fc.integer({ min: 1, max: 3 }), (machines, count) => {
      const { gpus, at } = gpusHeld(...machines.flat())
      let first = 0
      const split = machines.map(({ length }) => gpus.slice(first, (first += length)))
      const asked = wanted({ gpus: count })
      const spot = soonestSpot(split, asked, at)
      const enough = split.filter(({ length }) => length >= count)
      expect(spot === null).toBe(enough.length === 0)
      if (!spot) return
      for (const gpu of spot.gpus) {
        expect(milliFreeAt(at.occupantsOf(gpu), spot.expectedAtMs, 'expectedEndMs')).toBe(wholeMilli)
        expect(milliFreeAt(at.occupantsOf(gpu), spot.latestAtMs, 'latestEndMs')).toBe(wholeMilli)
      }
      for (const machine of enough) {
        const alone = machine.map((gpu) => momentOf({ gpus: [gpu], milliEach: wholeMilli }, at).expectedAtMs)
        expect(spot.expectedAtMs).toBeLessThanOrEqual(alone.sort((a, b) => a - b)[count - 1]!)
      }
    }),
  )
})
