import type { MarketGpu } from '../gpus/gpu-registry.ts'
import { costFactor, milliOn, warmthOn, warmths } from './expected-cost.ts'
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

/** What the index knows of a GPU, close together in memory. */
export type Listed = Pick<Slot, 'gpu' | 'price' | 'cost' | 'isThere' | 'freeMilli'>
/** The GPUs of one profile (gpu-profile.ts). */
export type ProfileGroup = { readonly sample: MarketGpu; readonly listed: Iterable<Listed> }

/** All GPUs, by what keeps them from running the task. */
export type Survey = {
  readonly wanted: Wanted
  readonly nowMs: number
  /** How many there are. */
  readonly gpus: number
  readonly fitting: readonly Listed[]
  /** What the task is expected to cost on each of those that fit. */
  readonly costs: readonly number[]
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
/** Of one profile. `freePrices`: of those that could take the task now, if it fitted. */
export type RejectedClass = {
  readonly vramGb: number
  readonly gpus: readonly MarketGpu[]
  readonly prices: readonly number[]
  readonly freePrices: readonly number[]
}

/**
 * Judges all GPUs for what is wanted. Profiles are judged once; of each GPU only what the index knows is read, and what rejects it
 * is a set of bits, so that 100,000 of them take a moment.
 */
export function surveyGpus(wanted: Wanted, groups: Iterable<ProfileGroup>, nowMs: number): Survey {
  const rankers = concernedRankers(wanted)
  const byBits = new Map<number, WritableClass[]>()
  const fitting: Listed[] = []
  const costs: number[] = []
  const maxPrice = wanted.maxPriceMicrosPerHour ?? Infinity
  let [count, free] = [0, 0]
  for (const { sample, listed } of groups) {
    const profileBits = bitsOf(rankers.ofProfile, wanted, sample)
    const factors = profileBits === 0 ? factorsOf(wanted, sample) : null
    const milli = milliOn(wanted, sample)
    const classes = new Map<number, WritableClass>()
    for (const member of listed) {
      count++
      const { gpu, price } = member
      let bits = profileBits
      if (!member.isThere) bits |= bitsOf(rankers.ofMoment, wanted, gpu)
      if ((price * milli) / wholeMilli > maxPrice) bits |= priceBit
      if (rankers.ofMachine.length > 0) bits |= bitsOf(rankers.ofMachine, wanted, gpu)
      const isFree = member.freeMilli > 0 && !isPassedOver(wanted, gpu.id, nowMs)
      if (bits === 0) {
        fitting.push(member)
        costs.push(member.cost * factors![warmthOn(wanted, gpu)])
        if (isFree) free++
        continue
      }
      let alike = classes.get(bits)
      if (!alike) classes.set(bits, (alike = { vramGb: sample.vramGb, gpus: [], prices: [], freePrices: [] }))
      alike.gpus.push(gpu)
      alike.prices.push(price)
      if (isFree) alike.freePrices.push(price)
    }
    for (const [bits, alike] of classes) byBits.set(bits, [...(byBits.get(bits) ?? []), alike])
  }
  const rejected = [...byBits].map(([bits, classes]) => rejectedGroup(bits, classes, wanted))
  return { wanted, nowMs, gpus: count, fitting, costs, free, rejected }
}

type WritableClass = { vramGb: number; gpus: MarketGpu[]; prices: number[]; freePrices: number[] }
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

function factorsOf(wanted: Wanted, sample: MarketGpu) {
  const factors = { loaded: 0, cached: 0, absent: 0 }
  for (const warmth of warmths) factors[warmth] = costFactor(wanted, sample, warmth)
  return factors
}

function rejectedGroup(bits: number, classes: readonly WritableClass[], wanted: Wanted): RejectedGroup {
  const rankers = bitRankers.filter(({ bit }) => (bits & bit) !== 0)
  return {
    codes: rankers.map(({ code }) => code),
    first: rejectionBy(rankers[0]!, wanted, classes[0]!.gpus[0]!),
    gpus: classes.reduce((sum, { gpus }) => sum + gpus.length, 0),
    classes,
  }
}

/** Why GPUs do not fit: the first reason of each, most frequent first. */
export function rejectionCounts({ rejected }: Pick<Survey, 'rejected'>): RejectionCount[] {
  return countRejections(rejected.map(({ first, gpus }) => ({ ...first, gpus })))
}

/** Why those that fit cannot take the task now. Null for one: it could. */
export function whyNotNow({ wanted, fitting, nowMs }: Survey, keptFrom: KeptFrom = () => null): (Rejection | null)[] {
  return fitting.map(({ gpu }) => judgeFree(wanted, gpu, nowMs) ?? keptFrom(gpu))
}

/** Why it does not get this GPU, where room is kept on it for another (kept-rooms.ts). */
export type KeptFrom = (gpu: MarketGpu) => Rejection | null

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
  return best.map((index) => fitting[index]!.gpu)
}
