import { priceOfShare, priceTogether } from '@orbyte/protocol'
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
import { fitRankers, isPassedOver, type Ranker, type RejectionCode } from './rankers.ts'

/** What the index knows of a GPU, close together in memory. */
export type Listed = Pick<Slot, 'gpu' | 'price' | 'cost' | 'isThere' | 'freeMilli' | 'machine'>
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
  /** What an hour of the task would cost there: of several GPUs, of the cheapest on its machine that it is one of. */
  readonly prices: readonly number[]
  /** Which of them could take the task now, and how many that are. */
  readonly areFree: readonly boolean[]
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
/** Of one profile. `prices`: what an hour of the task would cost there. `freePrices`: of those that could take the task now, if it fitted. */
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
  const prices: number[] = []
  const areFree: boolean[] = []
  let count = 0
  for (const { sample, listed } of groups) {
    const profileBits = bitsOf(rankers.ofProfile, wanted, sample)
    const factors = profileBits === 0 ? factorsOf(wanted, sample) : null
    const classes = new Map<number, WritableClass>()
    for (const { member, bits, price, cost, isFree } of judgeGroup(
      { sample, listed },
      { wanted, nowMs, rankers, profileBits },
    )) {
      count++
      const { gpu } = member
      if (bits === 0) {
        fitting.push(member)
        costs.push(cost * factors![warmthOn(wanted, gpu)])
        prices.push(price)
        areFree.push(isFree)
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
  const free = areFree.filter(Boolean).length
  return { wanted, nowMs, gpus: count, fitting, costs, prices, areFree, free, rejected }
}

/** `cost`: of an hour, of all GPUs that it takes. */
type JudgedMember = { member: Listed; bits: number; price: number; cost: number; isFree: boolean }
type Judging = {
  readonly wanted: Wanted
  readonly nowMs: number
  readonly rankers: ReturnType<typeof concernedRankers>
  readonly profileBits: number
}

function* judgeGroup({ sample, listed }: ProfileGroup, judging: Judging): Generator<JudgedMember> {
  const { wanted, nowMs, rankers, profileBits } = judging
  const maxPrice = wanted.maxPriceMicrosPerHour ?? Infinity
  const milli = milliOn(wanted, sample)
  /** Those that would do, by machine: they are judged together. */
  const machines = new Map<Listed['machine'], JudgedMember[]>()
  for (const member of listed) {
    const { gpu, cost } = member
    const price = priceOfShare(member.price, milli)
    let bits = profileBits
    if (!member.isThere) bits |= bitsOf(rankers.ofMoment, wanted, gpu)
    if (rankers.ofMachine.length > 0) bits |= bitsOf(rankers.ofMachine, wanted, gpu)
    const isFree = member.freeMilli >= milli && !isPassedOver(wanted, gpu.id, nowMs)
    const judged = { member, bits, price, cost, isFree }
    if (wanted.gpus === 1 && price > maxPrice) judged.bits |= priceBit
    if (wanted.gpus === 1 || bits !== 0) yield judged
    else if (machines.has(member.machine)) machines.get(member.machine)!.push(judged)
    else machines.set(member.machine, [judged])
  }
  for (const together of machines.values()) yield* judgeTogether(together, wanted.gpus, maxPrice)
}

/** Of one machine: each with the cheapest that the task could have beside it. */
function* judgeTogether(judged: readonly JudgedMember[], gpus: number, maxPrice: number): Generator<JudgedMember> {
  const cheapest = [...judged].sort((a, b) => a.price - b.price)
  const free = cheapest.filter(({ isFree }) => isFree)
  for (const one of judged) {
    const all = together(one, cheapest, gpus)
    const now = one.isFree ? together(one, free, gpus) : null
    const bits = all === null ? tooFewBit : all.price > maxPrice ? priceBit : 0
    yield { ...one, ...all, bits, isFree: now !== null && now.price <= maxPrice }
  }
}

/** Null: there are too few. */
function together(one: JudgedMember, cheapest: readonly JudgedMember[], gpus: number) {
  if (cheapest.length < gpus) return null
  const all = [one, ...cheapest.filter((other) => other !== one).slice(0, gpus - 1)]
  return {
    price: priceTogether(all.map(({ price }) => price)),
    cost: all.reduce((sum, { cost }) => sum + cost, 0),
  }
}

type WritableClass = { vramGb: number; gpus: MarketGpu[]; prices: number[]; freePrices: number[] }
type BitRanker = Ranker & { readonly bit: number }

const bitRankers: readonly BitRanker[] = fitRankers.map((ranker, index) => ({ ...ranker, bit: 1 << index }))
const bitOf = (code: RejectionCode) => bitRankers.find((ranker) => ranker.code === code)!.bit
const [priceBit, tooFewBit] = [bitOf('price_above_maximum'), bitOf('gpus_too_few')]
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
export const whyNotNow = ({ wanted, fitting, nowMs }: Survey): (Rejection | null)[] =>
  fitting.map(({ gpu }) => judgeFree(wanted, gpu, nowMs))

export type Best = { readonly gpu: MarketGpu; readonly price: number }

/** Those that fit, the best first; where several are wanted, one of each machine. */
export function bestOf(surveyed: Survey, count: number): Best[] {
  const { wanted, fitting, prices } = surveyed
  const best = wanted.gpus === 1 ? fitting.keys() : bestOfMachines(surveyed)
  return placesOfBest(surveyed, best, count).map((index) => ({ gpu: fitting[index]!.gpu, price: prices[index]! }))
}

function bestOfMachines({ fitting, costs }: Survey): Iterable<number> {
  const best = new Map<Listed['machine'], number>()
  for (const [index, { machine }] of fitting.entries()) {
    const known = best.get(machine)
    if (known === undefined || costs[index]! < costs[known]!) best.set(machine, index)
  }
  return best.values()
}

function placesOfBest({ costs }: Survey, places: Iterable<number>, count: number): number[] {
  const best: number[] = []
  for (const index of places) {
    const cost = costs[index]!
    if (best.length === count && cost >= costs[best.at(-1)!]!) continue
    let place = best.length
    while (place > 0 && costs[best[place - 1]!]! > cost) place--
    best.splice(place, 0, index)
    if (best.length > count) best.pop()
  }
  return best
}
