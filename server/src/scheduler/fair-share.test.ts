import fc from 'fast-check'
import { expect, test } from 'vitest'
import { createFairShare } from './fair-share.ts'

const halfLifeMs = 3_600_000
const quantumMs = 10_000
const newShare = () => createFairShare({ halfLifeMs, quantumMs })

test('whoever has had less stands before whoever has had more', () => {
  const share = newShare()
  share.hold('alice', { gpus: 1, sinceMs: 0 })
  share.free('alice', { gpus: 1, sinceMs: 0 }, 60_000)
  share.hold('bob', { gpus: 1, sinceMs: 0 })
  share.free('bob', { gpus: 1, sinceMs: 0 }, 30_000)
  expect(share.standingOf('bob', 60_000)).toBeLessThan(share.standingOf('alice', 60_000))
  expect(share.standingOf('carol', 60_000)).toBe(0)
})

test('half of what is past is forgotten in each half-life, and in the end all of it', () => {
  const share = newShare()
  share.remember('alice', 80_000, 0)
  expect(share.of('alice', halfLifeMs).gpuMs).toBe(40_000)
  expect(share.of('alice', 3 * halfLifeMs).gpuMs).toBe(10_000)
  share.forget(30 * halfLifeMs)
  expect([...share.renters()]).toEqual([])
})

test('it makes no difference in which order past use becomes known', () => {
  const uses = fc.array(fc.record({ gpuMs: fc.nat(1_000_000), endedMs: fc.nat(20 * halfLifeMs) }), { maxLength: 10 })
  fc.assert(
    fc.property(
      uses.chain((all) => fc.tuple(fc.constant(all), fc.shuffledSubarray(all, { minLength: all.length }))),
      ([some, shuffled]) => {
        const gpuMsOf = (all: typeof some) => {
          const share = newShare()
          for (const { gpuMs, endedMs } of all) share.remember('alice', gpuMs, endedMs)
          return share.of('alice', 20 * halfLifeMs).gpuMs
        }
        expect(gpuMsOf(shuffled)).toBeCloseTo(gpuMsOf(some), 3)
      },
    ),
  )
})

test('what is held counts from when it was got, and a GPU counts for something at once', () => {
  const share = newShare()
  share.hold('alice', { gpus: 1, sinceMs: 1_000 })
  expect(share.standingOf('alice', 1_000)).toBe(quantumMs)
  expect(share.standingOf('alice', 31_000)).toBe(quantumMs + 30_000)
  expect(share.of('alice', 31_000)).toEqual({ weight: 1, gpuMs: 30_000, held: 1 })
  share.hold('alice', { gpus: 1, sinceMs: 31_000 })
  expect(share.standingOf('alice', 31_000)).toBe(2 * quantumMs + 30_000)
})

test('a renter of weight two stands as one of weight one who has had half as much', () => {
  const share = newShare()
  share.setWeight('alice', 2)
  share.remember('alice', 60_000, 0)
  share.remember('bob', 30_000, 0)
  expect(share.standingOf('alice', 0)).toBe(share.standingOf('bob', 0))
  expect(share.stepOf('alice')).toBe(quantumMs / 2)
  share.setWeight('alice', 1)
  expect(share.standingOf('alice', 0)).toBe(60_000)
})
