import { micros, type Micros, microsMax } from '@orbyte/protocol'

const msPerHour = 3_600_000n

/**
 * What `runMs` milliseconds cost at a price in micro-ORB an hour: rounded up to the micro-ORB, once. A day at the highest price is
 * more than an amount can say: it costs the highest amount, which nobody has.
 */
export function costOf(priceMicrosPerHour: number, runMs: number): Micros {
  const exact = BigInt(priceMicrosPerHour) * BigInt(runMs)
  const cost = (exact + msPerHour - 1n) / msPerHour
  return micros(cost > microsMax ? microsMax : Number(cost))
}

/** The longest run, in whole milliseconds, that `amount` pays for at that price. */
export function runMsFor(priceMicrosPerHour: number, amount: number): number {
  if (priceMicrosPerHour === 0) return Number.MAX_SAFE_INTEGER
  return Number((BigInt(amount) * msPerHour) / BigInt(priceMicrosPerHour))
}

/** The platform's part of a cost, rounded down; the provider gets the rest. `basisPoints`: hundredths of a percent. */
export function feeOf(cost: number, basisPoints: number): Micros {
  return micros(Number((BigInt(cost) * BigInt(basisPoints)) / 10_000n))
}

/** Charged time: the least of what the agent claims, what passed on the server's own clock, and the maximum. Never negative. */
export function chargedMs(evidence: { claimedMs: number; observedMs: number; maxMs: number }): number {
  return Math.max(0, Math.floor(Math.min(evidence.claimedMs, evidence.observedMs, evidence.maxMs)))
}

/** Parts of an amount in proportion to prices, of which one at least is not zero: they add up to it, and none is below zero. */
export function splitByPrice(amount: number, prices: readonly number[]): Micros[] {
  const total = prices.reduce((sum, price) => sum + BigInt(price), 0n)
  let [upTo, given] = [0n, 0]
  return prices.map((price) => {
    upTo += BigInt(price)
    const part = Number((BigInt(amount) * upTo) / total) - given
    given += part
    return micros(part)
  })
}
