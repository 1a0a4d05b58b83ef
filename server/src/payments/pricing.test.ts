import fc from 'fast-check'
import { expect, test } from 'vitest'
import { chargedMs, costOf, feeOf, runMsFor } from './pricing.ts'

const price = fc.integer({ min: 1, max: 1_000_000_000 })

test('a cost is rounded up to the micro-ORB, once, and never by a whole one', () => {
  fc.assert(
    fc.property(price, fc.integer({ min: 0, max: 604_800_000 }), (perHour, runMs) => {
      const exact = BigInt(perHour) * BigInt(runMs)
      const charged = BigInt(costOf(perHour, runMs)) * 3_600_000n
      expect(charged >= exact && charged - exact < 3_600_000n).toBe(true)
    }),
  )
})

test('the run time that an amount pays for never costs more than the amount', () => {
  fc.assert(
    fc.property(price, fc.integer({ min: 0, max: 1_000_000_000 }), (perHour, amount) => {
      expect(costOf(perHour, Math.min(runMsFor(perHour, amount), 604_800_000))).toBeLessThanOrEqual(amount)
    }),
  )
})

test('an hour at one ORB costs one ORB, a millisecond at least a micro-ORB', () => {
  expect(costOf(1_000_000, 3_600_000)).toBe(1_000_000)
  expect(costOf(1, 1)).toBe(1)
  expect(costOf(1_000_000, 0)).toBe(0)
})

test('what costs more than an amount can say costs the highest amount', () => {
  expect(costOf(Number.MAX_SAFE_INTEGER, 3_600_000)).toBe(Number.MAX_SAFE_INTEGER)
  expect(costOf(Number.MAX_SAFE_INTEGER, 86_400_000)).toBe(Number.MAX_SAFE_INTEGER)
})

test('a fee is rounded down and never exceeds the cost', () => {
  expect(feeOf(999, 250)).toBe(24)
  expect(feeOf(1, 9_999)).toBe(0)
  expect(feeOf(100, 10_000)).toBe(100)
})

test('charged time is the least of claim, observation and maximum, and never negative', () => {
  expect(chargedMs({ claimedMs: 500, observedMs: 400, maxMs: 1_000 })).toBe(400)
  expect(chargedMs({ claimedMs: 300, observedMs: 400, maxMs: 1_000 })).toBe(300)
  expect(chargedMs({ claimedMs: 3_000, observedMs: 4_000, maxMs: 1_000 })).toBe(1_000)
  expect(chargedMs({ claimedMs: 300, observedMs: -5, maxMs: 1_000 })).toBe(0)
})
