import { priceOfShare, wholeMilli } from '@orbyte/protocol'
import type { MarketGpu } from '../gpus/gpu-registry.ts'
import { costFactor, milliOn, type Warmth, warmthOn, warmths } from './expected-cost.ts'
import type { GpuIndex } from './gpu-index.ts'
import type { Profile } from './gpu-profile.ts'
import { costTogether, priceOfAll } from './machine-choice.ts'
import {
  countRejections,
  judgeFree,
  rejectionBy,
  type Rejection,
  type RejectionCount,
  type Wanted,
} from './matching.ts'
import { fitRankers, isLargeEnough, isPassedOver, type Ranker, type RejectionCode } from './rankers.ts'

/** All GPUs, by what keeps them from running the task. */
export type Survey = {
  readonly wanted: Wanted
  readonly nowMs: number
  readonly index: GpuIndex
  /** How many there are. */
  readonly gpus: number
  /** How many fit, and how many of these could take the task now. */
  readonly fits: number
  readonly free: number
  readonly fitting: readonly FittingClass[]
  /** The others: those that the same rankers reject together. */
  readonly rejected: readonly RejectedGroup[]
}
/** Of one profile. `factors`: what an hour's cost is multiplied by for the task, by whether the GPU has the model at hand. */
export type FittingClass = { readonly factors: Factors; readonly numbers: readonly number[] }
type Factors = Readonly<Record<Warmth | 'least', number>>
export type RejectedGroup = {
  readonly codes: readonly RejectionCode[]
  readonly first: Rejection
  readonly gpus: number
  readonly classes: readonly RejectedClass[]
}
/** Of one profile. */
export type RejectedClass = {
  readonly vramGb: number
  readonly usableVramGb: number
  readonly numbers: readonly number[]
}

/**
 * Judges all GPUs for what is wanted. Profiles are judged once, and most GPUs with them; of the others only what the index's table
 * says is read. What rejects a GPU is a set of bits.
 */
export function surveyGpus(wanted: Wanted, index: GpuIndex, nowMs: number): Survey {
  const rankers = concernedRankers(wanted)
  const fitting: FittingClass[] = []
  const rejected = new Map<number, RejectedClass[]>()
  const among = { wanted, index, nowMs }
  let [fits, free] = [0, 0]
  for (const profile of index.profiles)
    for (const [bits, numbers] of classesOf(profile, { wanted, rankers, index })) {
      if (bits === 0) {
        fitting.push({ factors: factorsOf(wanted, profile.sample), numbers })
        fits += numbers.length
        for (const number of numbers) if (isFree(number, among)) free++
        continue
      }
      const alike = rejected.get(bits)
      const { vramGb, usableVramGb } = profile.sample
      const one = { vramGb, usableVramGb, numbers }
      if (alike) alike.push(one)
      else rejected.set(bits, [one])
    }
  const groups = [...rejected].map(([bits, classes]) => rejectedGroup(bits, classes, { wanted, index }))
  return { wanted, nowMs, index, gpus: index.size, fits, free, fitting, rejected: groups }
}

type Among = Pick<Survey, 'wanted' | 'index'>

/** Whether it could take the task now, if it fits; where several are wanted, with others of its machine. */
export function isFree(number: number, among: Among & Pick<Survey, 'nowMs'>): boolean {
  if (!isFreeAlone(number, among)) return false
  const { wanted, index } = among
  if (wanted.gpus === 1) return true
  const together = cheapestWith(number, among, (one) => wouldDo(one, among) && isFreeAlone(one, among))
  return together !== null && priceOfAll(together, index) <= (wanted.maxPriceMicrosPerHour ?? Infinity)
}

function isFreeAlone(number: number, { wanted, index, nowMs }: Among & Pick<Survey, 'nowMs'>): boolean {
  const milli = wanted.part === null ? wholeMilli : milliOn(wanted, index.gpu(number))
  if (index.table.free[number]! < milli) return false
  return wanted.failedGpus.size === 0 || !isPassedOver(wanted, index.gpu(number).id, nowMs)
}

/** What an hour of the task would cost there: of several GPUs, of it and the cheapest beside it. */
export function priceAt(number: number, { wanted, index }: Among): number {
  if (wanted.gpus === 1) return priceOfShare(index.table.price[number]!, milliOn(wanted, index.gpu(number)))
  return priceOfAll(together(number, { wanted, index }) ?? [number], index)
}

const together = (number: number, among: Among) => cheapestWith(number, among, (one) => wouldDo(one, among))

/** Beside one of its profile that fits. */
const wouldDo = (number: number, { wanted, index }: Among) =>
  index.table.isThere[number] === 1 && isLargeEnough(wanted, index.gpu(number))

/** It, and the cheapest of its machine for which that holds, as many as are wanted. Null: there are too few. */
function cheapestWith(number: number, { wanted, index }: Among, isMeant: (one: number) => boolean): number[] | null {
  const { price } = index.table
  const others = index.machineOf(number).gpus.filter((one) => one !== number && isMeant(one))
  if (others.length < wanted.gpus - 1) return null
  return [number, ...others.sort((a, b) => price[a]! - price[b]!).slice(0, wanted.gpus - 1)]
}

type Rankers = ReturnType<typeof concernedRankers>
type Judging = { readonly wanted: Wanted; readonly rankers: Rankers; readonly index: GpuIndex }

/** The profile's GPUs by what rejects them. */
function classesOf(
  { sample, members, prices }: Profile,
  { wanted, rankers, index }: Judging,
): Map<number, readonly number[]> {
  if (members.length === 0) return new Map()
  const { table } = index
  const bitsOfProfile = bitsOf(rankers.ofProfile, wanted, sample)
  const milli = milliOn(wanted, sample)
  const max = wanted.maxPriceMicrosPerHour ?? Infinity
  const isTooDear = (price: number) => (price * milli) / wholeMilli > max
  const areAlike = prices.length === members.length && isTooDear(prices[0]!) === isTooDear(prices.at(-1)!)
  if (areAlike && wanted.gpus === 1 && wanted.part === null && rankers.ofMachine.length === 0)
    return new Map([[bitsOfProfile | (isTooDear(prices[0]!) ? priceBit : 0), members]])
  const classes = new Map<number, number[]>()
  for (const number of members) {
    let bits = bitsOfProfile
    if (table.isThere[number] === 0) bits |= bitsOf(rankers.ofMoment, wanted, index.gpu(number))
    if (wanted.gpus === 1 && isTooDear(table.price[number]!)) bits |= priceBit
    if (wanted.part !== null && table.isShared[number] === 0) bits |= sharingBit
    if (rankers.ofMachine.length > 0) bits |= bitsOf(rankers.ofMachine, wanted, index.gpu(number))
    if (wanted.gpus > 1 && bits === 0) bits = bitsTogether(number, { wanted, index })
    const alike = classes.get(bits)
    if (alike) alike.push(number)
    else classes.set(bits, [number])
  }
  return classes
}

function bitsTogether(number: number, among: Among): number {
  const all = together(number, among)
  if (all === null) return tooFewBit
  return priceOfAll(all, among.index) > (among.wanted.maxPriceMicrosPerHour ?? Infinity) ? priceBit : 0
}

type BitRanker = Ranker & { readonly bit: number }

const bitRankers: readonly BitRanker[] = fitRankers.map((ranker, index) => ({ ...ranker, bit: 1 << index }))
const bitOf = (code: RejectionCode) => bitRankers.find((ranker) => ranker.code === code)!.bit
const [priceBit, sharingBit, tooFewBit] = [
  bitOf('price_above_maximum'),
  bitOf('sharing_not_allowed'),
  bitOf('gpus_too_few'),
]
/** What keeps a GPU from being there. */
const codesOfMoment: readonly RejectionCode[] = ['gpu_offline', 'gpu_in_maintenance', 'below_owners_minimum_price']

function concernedRankers(wanted: Wanted) {
  // What the table says too is read there.
  const concerned = bitRankers.filter(({ concerns, bit }) => bit !== priceBit && bit !== sharingBit && concerns(wanted))
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

function rejectedGroup(bits: number, classes: readonly RejectedClass[], { wanted, index }: Among): RejectedGroup {
  const rankers = bitRankers.filter(({ bit }) => (bits & bit) !== 0)
  return {
    codes: rankers.map(({ code }) => code),
    first: rejectionBy(rankers[0]!, wanted, index.gpu(classes[0]!.numbers[0]!)),
    gpus: classes.reduce((sum, { numbers }) => sum + numbers.length, 0),
    classes,
  }
}

/** Why GPUs do not fit: the first reason of each, most frequent first. */
export function rejectionCounts({ rejected }: Pick<Survey, 'rejected'>): RejectionCount[] {
  return countRejections(rejected.map(({ first, gpus }) => ({ ...first, gpus })))
}

/** The numbers of those that fit. */
export const fittingNumbers = ({ fitting }: Pick<Survey, 'fitting'>): number[] =>
  fitting.flatMap(({ numbers }) => numbers)

/** Those that fit. */
export function* fittingGpus({ fitting, index }: Pick<Survey, 'fitting' | 'index'>): Generator<MarketGpu> {
  for (const { numbers } of fitting) for (const number of numbers) yield index.gpu(number)
}

/** Why those that fit cannot take the task now. Null for one: it could. */
export function whyNotNow(survey: Survey, keptFrom: KeptFrom = () => null): (Rejection | null)[] {
  const { wanted, nowMs } = survey
  return Array.from(fittingGpus(survey), (gpu) => judgeFree(wanted, gpu, nowMs) ?? keptFrom(gpu))
}

/** Why it does not get this GPU, where room is kept on it for another (kept-rooms.ts). */
export type KeptFrom = (gpu: MarketGpu) => Rejection | null

export type Best = { readonly gpu: MarketGpu; readonly price: number }

/** Those that fit, the best first; where several are wanted, one of each machine. */
export function bestOf(survey: Survey, count: number): Best[] {
  const { wanted, fitting, index } = survey
  const best: { readonly number: number; readonly cost: number }[] = []
  let worst = Infinity
  for (const { numbers, factors } of fitting)
    for (const number of wanted.gpus === 1 ? numbers : onePerMachine(numbers, survey)) {
      const hourCost = hourCostAt(number, survey)
      // Whether it has the model at hand is asked only if it may be among the best at all.
      if (hourCost * factors.least >= worst) continue
      const cost = hourCost * factors[warmthOn(wanted, index.gpu(number))]
      if (cost >= worst) continue
      let before = best.length
      while (before > 0 && best[before - 1]!.cost > cost) before--
      best.splice(before, 0, { number, cost })
      if (best.length > count) best.pop()
      if (best.length === count) worst = best.at(-1)!.cost
    }
  return best.map(({ number }) => ({ gpu: index.gpu(number), price: priceAt(number, survey) }))
}

/** Of all GPUs that the task would have there. */
function hourCostAt(number: number, { wanted, index }: Survey): number {
  if (wanted.gpus === 1) return index.table.cost[number]!
  return costTogether(together(number, { wanted, index }) ?? [number], index)
}

/** The one with which the task costs least there. */
function onePerMachine(numbers: readonly number[], survey: Survey): Iterable<number> {
  const best = new Map<number, { readonly number: number; readonly cost: number }>()
  for (const number of numbers) {
    const machine = survey.index.table.machine[number]!
    const cost = hourCostAt(number, survey)
    if (cost < (best.get(machine)?.cost ?? Infinity)) best.set(machine, { number, cost })
  }
  return [...best.values()].map(({ number }) => number)
}
