import type { MarketGpu } from '../gpus/gpu-registry.ts'
import { costFactor, hourCost, warmthOn } from './expected-cost.ts'
import { judgeFree, rejectionBy, type Rejection, type RejectionCount, sortCounts, type Wanted } from './matching.ts'
import { fitRankers, freeRankers, type RejectionCode } from './rankers.ts'

/** The GPUs of one profile (gpu-profile.ts). */
export type ProfileGroup = { readonly sample: MarketGpu; readonly gpus: Iterable<MarketGpu> }

/** All GPUs, by what keeps them from running the task. */
export type Survey = {
  readonly wanted: Wanted
  readonly nowMs: number
  /** How many there are. */
  readonly gpus: number
  readonly fitting: readonly MarketGpu[]
  /** What the task is expected to cost on each of those that fit. */
  readonly costs: readonly number[]
  /** The others: those that the same rankers reject together. */
  readonly rejected: readonly RejectedGroup[]
}
export type RejectedGroup = {
  readonly codes: readonly RejectionCode[]
  readonly first: Rejection
  readonly gpus: MarketGpu[]
}

const warmths = ['loaded', 'cached', 'absent'] as const

/**
 * Judges all GPUs for what is wanted. Profiles are judged once, and what rejects a GPU is a set of bits, so that 100,000 of them
 * take a moment.
 */
export function surveyGpus(wanted: Wanted, groups: Iterable<ProfileGroup>, nowMs: number): Survey {
  const concerned = fitRankers.flatMap((ranker, bit) => (ranker.concerns(wanted) ? [{ ...ranker, bit: 1 << bit }] : []))
  const ofProfile = concerned.filter(({ isOfProfile }) => isOfProfile)
  const ofGpu = concerned.filter(({ isOfProfile }) => !isOfProfile)
  const byBits = new Map<number, MarketGpu[]>()
  const fitting: MarketGpu[] = []
  const costs: number[] = []
  let count = 0
  for (const { sample, gpus } of groups) {
    let profileBits = 0
    for (const { rejects, bit } of ofProfile) if (rejects(wanted, sample, nowMs)) profileBits |= bit
    const factors = { loaded: 0, cached: 0, absent: 0 }
    if (profileBits === 0) for (const warmth of warmths) factors[warmth] = costFactor(wanted, sample, warmth)
    for (const gpu of gpus) {
      count++
      let bits = profileBits
      for (const { rejects, bit } of ofGpu) if (rejects(wanted, gpu, nowMs)) bits |= bit
      if (bits === 0) {
        fitting.push(gpu)
        costs.push(hourCost(gpu) * factors[warmthOn(wanted, gpu)])
        continue
      }
      const alike = byBits.get(bits)
      if (alike) alike.push(gpu)
      else byBits.set(bits, [gpu])
    }
  }
  const rejected = [...byBits].map(([bits, gpus]) => rejectedGroup(bits, gpus, wanted))
  return { wanted, nowMs, gpus: count, fitting, costs, rejected }
}

function rejectedGroup(bits: number, gpus: MarketGpu[], wanted: Wanted): RejectedGroup {
  const rankers = fitRankers.filter((_, bit) => (bits & (1 << bit)) !== 0)
  return { codes: rankers.map(({ code }) => code), first: rejectionBy(rankers[0]!, wanted, gpus[0]!), gpus }
}

/** Why GPUs do not fit: the first reason of each, most frequent first. */
export function rejectionCounts({ rejected }: Pick<Survey, 'rejected'>): RejectionCount[] {
  const counts = new Map<RejectionCode, RejectionCount>()
  for (const { first, gpus } of rejected) {
    const known = counts.get(first.code)
    if (known) known.gpus += gpus.length
    else counts.set(first.code, { ...first, gpus: gpus.length })
  }
  return sortCounts([...counts.values()])
}

/** How many of the GPUs, which fit, could take the task now. */
export function countFree(wanted: Wanted, gpus: readonly MarketGpu[], nowMs: number): number {
  const concerned = freeRankers.filter(({ concerns }) => concerns(wanted))
  return gpus.reduce((free, gpu) => (concerned.some(({ rejects }) => rejects(wanted, gpu, nowMs)) ? free : free + 1), 0)
}

/** Why those that fit cannot take the task now. Null for one: it could. */
export const whyNotNow = ({ wanted, fitting, nowMs }: Survey): (Rejection | null)[] =>
  fitting.map((gpu) => judgeFree(wanted, gpu, nowMs))

/** Those that fit, the best first. */
export function bestOf({ fitting, costs }: Survey, count: number): MarketGpu[] {
  const best: number[] = []
  for (const [index, cost] of costs.entries()) {
    if (best.length === count && cost >= costs[best.at(-1)!]!) continue
    let place = best.length
    while (place > 0 && costs[best[place - 1]!]! > cost) place--
    best.splice(place, 0, index)
    if (best.length > count) best.pop()
  }
  return best.map((index) => fitting[index]!)
}
