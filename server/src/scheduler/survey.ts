import type { MarketGpu } from '../gpus/gpu-registry.ts'
import { costFactor, milliOn, type Warmth, warmthOn, warmths } from './expected-cost.ts'
import type { GpuIndex } from './gpu-index.ts'
import type { Slot } from './gpu-slot.ts'
import {
  countRejections,
  judgeFree,
  rejectionBy,
  type Rejection,
  type RejectionCount,
  type Wanted,
} from './matching.ts'
import { wholeMilli } from './packing.ts'
import { fitRankers, isPassedOver, type Ranker, type RejectionCode } from './rankers.ts'

/** All GPUs, by what keeps them from running the task. */
export type Survey = {
  readonly wanted: Wanted
  readonly nowMs: number
  /** How many there are. */
  readonly gpus: number
  readonly fitting: readonly Slot[]
  /** What an hour of each of those counts (`hourCost`), and by what that is multiplied for the task. */
  readonly hourCosts: readonly number[]
  readonly factors: readonly Factors[]
  /** How many of them could take the task now. */
  readonly free: number
  /** The others: those that the same rankers reject together. */
  readonly rejected: readonly RejectedGroup[]
}
export type RejectedGroup = {
  readonly codes: readonly RejectionCode[]
  readonly first: Rejection
  readonly gpus: number
  /** By profile. */
  readonly classes: readonly RejectedClass[]
}
type Factors = Readonly<Record<Warmth | 'least', number>>
/** Of one profile. `freePrices`: of those that could take the task now, if it fitted. */
export type RejectedClass = {
  readonly vramGb: number
  readonly listed: readonly Slot[]
  readonly prices: readonly number[]
  readonly freePrices: readonly number[]
}

/**
 * Judges all GPUs for what is wanted. Profiles are judged once; of each GPU only what the index's table says is read, and what
 * rejects it is a set of bits, so that 100,000 of them take a moment.
 */
export function surveyGpus(wanted: Wanted, index: GpuIndex, nowMs: number): Survey {
  const rankers = concernedRankers(wanted)
  const byBits = new Map<number, WritableClass[]>()
  const fitting: Slot[] = []
  const hourCosts: number[] = []
  const factors: Factors[] = []
  const maxPrice = wanted.maxPriceMicrosPerHour ?? Infinity
  const { table } = index
  let free = 0
  for (const { sample, members } of index.profiles) {
    const profileBits = bitsOf(rankers.ofProfile, wanted, sample)
    const ofProfile = profileBits === 0 ? factorsOf(wanted, sample) : null
    const milli = milliOn(wanted, sample)
    const classes = new Map<number, WritableClass>()
    for (const number of members) {
      const slot = index.slot(number)
      const price = table.price[number]!
      let bits = profileBits
      if (table.isThere[number] === 0) bits |= bitsOf(rankers.ofMoment, wanted, slot.gpu)
      if ((price * milli) / wholeMilli > maxPrice) bits |= priceBit
      if (rankers.ofMachine.length > 0) bits |= bitsOf(rankers.ofMachine, wanted, slot.gpu)
      const isFree =
        table.free[number]! > 0 && (wanted.failedGpus.size === 0 || !isPassedOver(wanted, slot.gpu.id, nowMs))
      if (bits === 0) {
        fitting.push(slot)
        hourCosts.push(table.cost[number]!)
        factors.push(ofProfile!)
        if (isFree) free++
        continue
      }
      let alike = classes.get(bits)
      if (!alike) classes.set(bits, (alike = { vramGb: sample.vramGb, listed: [], prices: [], freePrices: [] }))
      alike.listed.push(slot)
      alike.prices.push(price)
      if (isFree) alike.freePrices.push(price)
    }
    for (const [bits, alike] of classes) byBits.set(bits, [...(byBits.get(bits) ?? []), alike])
  }
  const rejected = [...byBits].map(([bits, classes]) => rejectedGroup(bits, classes, wanted))
  return { wanted, nowMs, gpus: index.size, fitting, hourCosts, factors, free, rejected }
}

type WritableClass = { vramGb: number; listed: Slot[]; prices: number[]; freePrices: number[] }
type BitRanker = Ranker & { readonly bit: number }

const bitRankers: readonly BitRanker[] = fitRankers.map((ranker, index) => ({ ...ranker, bit: 1 << index }))
const priceBit = bitRankers.find(({ code }) => code === 'price_above_maximum')!.bit
/** What keeps a GPU from being there. */
const codesOfMoment: readonly RejectionCode[] = ['gpu_offline', 'gpu_in_maintenance', 'below_owners_minimum_price']

function concernedRankers(wanted: Wanted) {
  const concerned = bitRankers.filter(({ concerns, bit }) => bit !== priceBit && concerns(wanted))
  const isOfMoment = ({ code }: Ranker) => codesOfMoment.includes(code)
  return {
    ofProfile: concerned.filter(({ isOfProfile }) => isOfProfile),
    ofMoment: concerned.filter(isOfMoment),
    ofMachine: concerned.filter((ranker) => !ranker.isOfProfile && !isOfMoment(ranker)),
  }
}

function bitsOf(rankers: readonly BitRanker[], wanted: Wanted, gpu: MarketGpu): number {
  let bits = 0
  for (const { rejects, bit } of rankers) if (rejects(wanted, gpu, 0)) bits |= bit
  return bits
}

function factorsOf(wanted: Wanted, sample: MarketGpu): Factors {
  const factors = { loaded: 0, cached: 0, absent: 0, least: Infinity }
  for (const warmth of warmths) {
    factors[warmth] = costFactor(wanted, sample, warmth)
    factors.least = Math.min(factors.least, factors[warmth])
  }
  return factors
}

function rejectedGroup(bits: number, classes: readonly WritableClass[], wanted: Wanted): RejectedGroup {
  const rankers = bitRankers.filter(({ bit }) => (bits & bit) !== 0)
  return {
    codes: rankers.map(({ code }) => code),
    first: rejectionBy(rankers[0]!, wanted, classes[0]!.listed[0]!.gpu),
    gpus: classes.reduce((sum, { listed }) => sum + listed.length, 0),
    classes,
  }
}

/** Why GPUs do not fit: the first reason of each, most frequent first. */
export function rejectionCounts({ rejected }: Pick<Survey, 'rejected'>): RejectionCount[] {
  return countRejections(rejected.map(({ first, gpus }) => ({ ...first, gpus })))
}

/** Why those that fit cannot take the task now. Null for one: it could. */
export const whyNotNow = ({ wanted, fitting, nowMs }: Survey): (Rejection | null)[] =>
  fitting.map(({ gpu }) => judgeFree(wanted, gpu, nowMs))

/** What the task is expected to cost on the one of those that fit that has this place among them. */
export function costOn({ wanted, fitting, hourCosts, factors }: Survey, place: number): number {
  return hourCosts[place]! * factors[place]![warmthOn(wanted, fitting[place]!.gpu)]
}

/** Those that fit, the best first. */
export function bestOf(survey: Survey, count: number): MarketGpu[] {
  const { fitting, hourCosts, factors } = survey
  const best: { readonly slot: Slot; readonly cost: number }[] = []
  let worst = Infinity
  for (const [place, slot] of fitting.entries()) {
    // Whether it has the model at hand is asked only if it may be among the best at all.
    if (hourCosts[place]! * factors[place]!.least >= worst) continue
    const cost = costOn(survey, place)
    if (cost >= worst) continue
    let before = best.length
    while (before > 0 && best[before - 1]!.cost > cost) before--
    best.splice(before, 0, { slot, cost })
    if (best.length > count) best.pop()
    if (best.length === count) worst = best.at(-1)!.cost
  }
  return best.map(({ slot }) => slot.gpu)
}
