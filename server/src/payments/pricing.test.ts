import fc from 'fast-check'
import { expect, test } from 'vitest'
import { priceOfShare } from '@orbyte/protocol'
import { chargedMs, costOf, feeOf, runMsFor, splitByPrice } from './pricing.ts'

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

test('a share is paid in proportion, rounded up to the micro-ORB, and shares of one GPU never cost less than it', () => {
  const anyPrice = fc.oneof(price, fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER }))
  fc.assert(
    fc.property(anyPrice, fc.integer({ min: 1, max: 1_000 }), (perHour, milli) => {
      const exact = BigInt(perHour) * BigInt(milli)
      const paid = BigInt(priceOfShare(perHour, milli)) * 1_000n
      expect(paid >= exact && paid - exact < 1_000n).toBe(true)
      const rest = milli === 1_000 ? 0 : priceOfShare(perHour, 1_000 - milli)
      expect(priceOfShare(perHour, milli)).toBeGreaterThanOrEqual(perHour - rest)
    }),
  )
})

test('what several GPUs earn together is split by their prices, and adds up', () => {
  const prices = fc.array(fc.integer({ min: 0, max: 10_000_000 }), { minLength: 1, maxLength: 8 })
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 1e12 }), prices, (amount, each) => {
      fc.pre(each.some((one) => one > 0))
      const parts = splitByPrice(amount, each)
      const total = each.reduce((sum, one) => sum + one, 0)
      expect(parts.reduce((sum, part) => sum + part, 0)).toBe(amount)
      for (const [index, part] of parts.entries())
        expect(Math.abs(part - (amount * each[index]!) / total)).toBeLessThanOrEqual(1.001)
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
