import { wholeMilli } from '@orbyte/protocol'
import type { MarketGpu } from '../gpus/gpu-registry.ts'
import { milliOn, priceOn } from './expected-cost.ts'
import type { Wanted } from './matching.ts'

/*
 * Where a task that finds nothing free could start soonest: on which GPUs of which machine, and when they will be free for it.
 * Pure: no clock, no index.
 */

/** What holds a GPU or a part of it, and until when: as such things go, and at the latest. */
export type Occupant = { readonly milli: number; readonly expectedEndMs: number; readonly latestEndMs: number }
export type OccupantsOf = (gpu: MarketGpu) => readonly Occupant[]

/** When there is room: as things go, and at the latest. */
export type Moment = { readonly expectedAtMs: number; readonly latestAtMs: number }
/** GPUs of one machine, and how much of each. */
export type Spot = Moment & { readonly gpus: readonly MarketGpu[]; readonly milliEach: number }
export type At = { readonly nowMs: number; readonly occupantsOf: OccupantsOf }

/** Of so many GPUs on which it could start, the soonest will do: more would take the market's time for others. */
export const gpusLookedAtMax = 2_000

/** `machines`: of each the GPUs that could run it, free or busy. Null: nowhere there are enough for what it pays. */
export function soonestSpot(machines: Iterable<readonly MarketGpu[]>, wanted: Wanted, at: At): Spot | null {
  let soonest: Spot | null = null
  let lookedAt = 0
  for (const gpus of machines) {
    const spot = spotOn(gpus, wanted, at)
    if (!spot) continue
    if (soonest === null || isSooner(spot, soonest)) soonest = spot
    lookedAt += gpus.length
    if (lookedAt >= gpusLookedAtMax) break
  }
  return soonest
}

/** On these GPUs together. */
export function momentOf({ gpus, milliEach }: Pick<Spot, 'gpus' | 'milliEach'>, at: At): Moment {
  const moment = { expectedAtMs: at.nowMs, latestAtMs: at.nowMs }
  for (const gpu of gpus) {
    const { expectedAtMs, latestAtMs } = momentOn(gpu, milliEach, at)
    moment.expectedAtMs = Math.max(moment.expectedAtMs, expectedAtMs)
    moment.latestAtMs = Math.max(moment.latestAtMs, latestAtMs)
  }
  return moment
}

/** How much of a GPU nobody holds at this time, if nothing else comes. */
export function milliFreeAt(occupants: readonly Occupant[], atMs: number, end: 'expectedEndMs' | 'latestEndMs') {
  let free = wholeMilli
  for (const occupant of occupants) if (occupant[end] > atMs) free -= occupant.milli
  return free
}

export function isSooner(a: Moment, b: Moment): boolean {
  return a.expectedAtMs === b.expectedAtMs ? a.latestAtMs < b.latestAtMs : a.expectedAtMs < b.expectedAtMs
}

/** Those that are free soonest; where they cost too much together, those with the lowest prices. */
function spotOn(gpus: readonly MarketGpu[], wanted: Wanted, at: At): Spot | null {
  const { gpus: count, maxPriceMicrosPerHour: max } = wanted
  const affordable = gpus.filter((gpu) => max === null || priceOn(wanted, gpu) <= max)
  if (affordable.length < count) return null
  const milliEach = milliOn(wanted, affordable[0]!)
  const together = (chosen: readonly MarketGpu[]): Spot | null => {
    const price = chosen.reduce((sum, gpu) => sum + priceOn(wanted, gpu), 0)
    if (max !== null && price > max) return null
    return { gpus: chosen, milliEach, ...momentOf({ gpus: chosen, milliEach }, at) }
  }
  const moments = affordable.map((gpu) => ({ gpu, ...momentOn(gpu, milliEach, at) }))
  const bySoonest = moments.sort((a, b) => a.expectedAtMs - b.expectedAtMs || a.latestAtMs - b.latestAtMs)
  const byPrice = () => [...affordable].sort((a, b) => a.priceMicrosPerHour - b.priceMicrosPerHour)
  return together(bySoonest.slice(0, count).map(({ gpu }) => gpu)) ?? together(byPrice().slice(0, count))
}

function momentOn(gpu: MarketGpu, milli: number, { nowMs, occupantsOf }: At): Moment {
  const occupants = occupantsOf(gpu)
  const fromMs = Math.max(nowMs, gpu.coolDownUntilMs)
  const expectedAtMs = Math.max(fromMs, endOfEnough(occupants, milli, 'expectedEndMs'))
  return { expectedAtMs, latestAtMs: Math.max(expectedAtMs, endOfEnough(occupants, milli, 'latestEndMs')) }
}

/** When enough has ended, one after the other, for so many thousandths to be free. */
function endOfEnough(occupants: readonly Occupant[], milli: number, end: 'expectedEndMs' | 'latestEndMs'): number {
  let free = occupants.reduce((left, occupant) => left - occupant.milli, wholeMilli)
  if (free >= milli) return 0
  if (occupants.length === 1) return occupants[0]![end]
  for (const occupant of [...occupants].sort((a, b) => a[end] - b[end])) {
    free += occupant.milli
    if (free >= milli) return occupant[end]
  }
  return Infinity
}
