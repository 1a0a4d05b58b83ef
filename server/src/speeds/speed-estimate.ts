/** What one GPU has done with one model: sums over all attempts, and over the latest with a weight that halves every seven. */
export type Speed = {
  readonly attempts: number
  readonly work: number
  readonly runMs: number
  readonly recentWork: number
  readonly recentRunMs: number
}
export type Measured = { readonly work: number; readonly runMs: number }

const decay = 0.9
/** From so many attempts on, a speed is one to go by. */
export const attemptsMin = 3
/** From speeds of so many other owners on, theirs are. */
const othersMin = 2
/** Machines of a kind differ, and are busy with other things: only what is far beyond that is slow. */
const slowFactor = 4
const slowGraceMs = 3_000

export function addMeasured(speed: Speed | undefined, { work, runMs }: Measured): Speed {
  const before = speed ?? { attempts: 0, work: 0, runMs: 0, recentWork: 0, recentRunMs: 0 }
  return {
    attempts: before.attempts + 1,
    work: before.work + work,
    runMs: before.runMs + runMs,
    recentWork: before.recentWork * decay + work,
    recentRunMs: before.recentRunMs * decay + runMs,
  }
}

/** Work a millisecond, lately; null: it has not done enough to say. */
export function rateOf(speed: Speed | undefined): number | null {
  if (!speed || speed.attempts < attemptsMin || speed.recentWork === 0) return null
  return speed.recentWork / Math.max(1, speed.recentRunMs)
}

/**
 * What GPUs of one kind do: of each owner the median, of all owners the median, and of two in the middle the slower; so an owner
 * counts once however many GPUs they have, and one who is impossibly fast (answers that nobody computed) shames nobody. Null:
 * too few.
 */
export function usualRate(ratesByOwner: Iterable<readonly number[]>): number | null {
  const ofOwners = [...ratesByOwner].map(lowerMedian).filter((rate) => rate !== null)
  return ofOwners.length < othersMin ? null : lowerMedian(ofOwners)
}

function lowerMedian(values: readonly number[]): number | null {
  const sorted = [...values].sort((a, b) => a - b)
  return sorted[Math.floor((sorted.length - 1) / 2)] ?? null
}

export type SpeedVerdict = { readonly expectedRunMs: number; readonly slow: boolean }

/** `rate`: of others, or its own until now. */
export function judgeRun({ work, runMs }: Measured, rate: number): SpeedVerdict {
  const expectedMs = work / rate
  return { expectedRunMs: Math.ceil(expectedMs), slow: runMs > slowGraceMs + slowFactor * expectedMs }
}
