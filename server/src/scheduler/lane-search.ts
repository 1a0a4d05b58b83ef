import { wholeMilli } from '@orbyte/protocol'
import type { Fitting } from './fitting.ts'
import type { GpuIndex } from './gpu-index.ts'
import { costFrom, memberAt, stepAt, stepOf, stepShare } from './gpu-lane.ts'
import { type Asked, cheapestOn, costTogether, isEachTheSame, willDo } from './machine-choice.ts'
import { nearEqualShare } from './matching.ts'

/** What costs no more than this above the least is near-equal: costs are compared in steps, and it may be at the end of its step. */
const nearShare = (1 + nearEqualShare) / (1 + stepShare) - 1

/**
 * Finds where what is near-equal to the cheapest lies. Arrays tell what the first in each lane costs at least. So only the lanes are
 * looked into that may have the cheapest, and then those that are drawn.
 */
export class LaneSearch {
  readonly #index: GpuIndex
  #fitting!: Fitting
  #asked!: Asked
  /** Whether nothing that is particular to one GPU but its price decides. */
  #isEachTheSame = true
  /** A price for a thousandth of an hour. */
  #priceMost = Infinity
  #limit = Infinity
  #cheapest = 0
  /** What the task is expected to cost in each lane at least. */
  #costs = new Float64Array(64)
  /** The lanes that may have something near-equal, and how many members they have in all. */
  #near = new Int32Array(64)
  #nearCount = 0
  #members = 0
  /** Of the last that was drawn. */
  lane = 0

  constructor(index: GpuIndex) {
    this.#index = index
  }

  /** False: nothing that will do is free. */
  find(fitting: Fitting, asked: Asked): boolean {
    this.#index.settle()
    this.#fitting = fitting
    this.#asked = asked
    this.#isEachTheSame = isEachTheSame(asked.wanted)
    this.#priceMost = (asked.wanted.maxPriceMicrosPerHour ?? Infinity) * wholeMilli
    let cheapest = this.#readCosts()
    if (cheapest < 0) return false
    const costs = this.#costs
    const { length } = fitting.lanes
    const bound = costs[cheapest]!
    let least = this.#lookInto(cheapest, Infinity)
    for (let lane = 0; least > bound && lane < length; lane++) {
      if (costs[lane]! >= least || !this.#mayHave(lane)) continue
      const cost = this.#lookInto(lane, least)
      if (cost >= least) continue
      cheapest = lane
      least = cost
    }
    if (least === Infinity) return false
    this.#cheapest = cheapest
    this.#limit = least * (1 + nearShare)
    this.#findNear()
    return true
  }

  /** `at`: from 0 to below 1; over all of it each lane has its share by its size. -1: nothing in the lane is near-equal. */
  draw(at: number): number {
    const { lanes } = this.#fitting
    const { sizes } = this.#index.lanes
    let position = Math.floor(at * this.#members)
    for (let near = 0; near < this.#nearCount; near++) {
      const lane = this.#near[near]!
      const size = sizes[lanes[lane]!]!
      if (position < size) return this.#drawIn(lane, position / size)
      position -= size
    }
    return -1
  }

  drawCheapest(): number {
    return this.#drawIn(this.#cheapest, 0)
  }

  /** Writes `costs`. Which is least; -1: there is nothing. */
  #readCosts(): number {
    const { lanes, factors } = this.#fitting
    const { costFrom: costsFrom } = this.#index.lanes
    if (this.#costs.length < lanes.length) {
      this.#costs = new Float64Array(2 * lanes.length)
      this.#near = new Int32Array(2 * lanes.length)
    }
    const costs = this.#costs
    let cheapest = -1
    let least = Infinity
    for (let lane = 0; lane < lanes.length; lane++) {
      const cost = costsFrom[lanes[lane]!]! * factors[lane]!
      costs[lane] = cost
      if (cost >= least || !this.#mayHave(lane)) continue
      cheapest = lane
      least = cost
    }
    return cheapest
  }

  /** False: nothing in the lane will do, for its price or for what its machine has. Its cost is Infinity then. */
  #mayHave(at: number): boolean {
    const { lanes, millis, owners, machineSize } = this.#fitting
    const isTooDear = this.#index.lanes.priceFrom[lanes[at]!]! * millis[at]! > this.#priceMost
    if (!isTooDear && (machineSize === null || owners[at]!.profile.mayBeAsLarge(machineSize))) return true
    this.#costs[at] = Infinity
    return false
  }

  #findNear() {
    const { lanes } = this.#fitting
    const { sizes } = this.#index.lanes
    this.#nearCount = 0
    this.#members = 0
    for (let lane = 0; lane < lanes.length; lane++) {
      if (this.#costs[lane]! > this.#limit || !this.#mayHave(lane)) continue
      this.#near[this.#nearCount++] = lane
      this.#members += sizes[lanes[lane]!]!
    }
  }

  /** What the cheapest in it that will do costs, if that is less than `least`. What has too little free for the lane is dropped. */
  #lookInto(at: number, least: number): number {
    const lanes = this.#index.lanes
    const lane = this.#fitting.lanes[at]!
    const factor = this.#fitting.factors[at]!
    const free = this.#freeOf()
    const level = lanes.levels[lane]!
    const { places } = lanes
    const start = lanes.starts[lane]!
    let gone = 0
    while (gone < lanes.sizes[lane]! && free[memberAt(places[start + gone]!)]! < level) gone++
    if (gone > 0) this.#drop(lane, 0, gone)
    const end = start + lanes.sizes[lane]!
    let cost = least
    let bound = Infinity
    let priceFrom = Infinity
    let next = start
    for (; next < end; next++) {
      const place = places[next]!
      bound = costFrom(stepAt(place)) * factor
      if (bound >= cost) break
      cost = Math.min(cost, this.#costOf(place, at))
      const member = memberAt(place)
      if (free[member]! >= level) priceFrom = Math.min(priceFrom, this.#priceOf(member))
      else this.#note(member, lane)
    }
    // All of it was seen: this is from what price on there is anything.
    if (next === end) {
      lanes.priceFrom[lane] = priceFrom
      bound = Infinity
    }
    this.#costs[at] = Math.min(cost === least ? Infinity : cost, bound)
    return cost
  }

  #drawIn(at: number, share: number): number {
    const lanes = this.#index.lanes
    const lane = this.#fitting.lanes[at]!
    const free = this.#freeOf()
    const level = lanes.levels[lane]!
    const { places } = lanes
    const start = lanes.starts[lane]!
    this.lane = at
    let end = lanes.countUpTo(lane, stepOf(this.#limit / this.#fitting.factors[at]!))
    let next = Math.floor(share * end)
    for (let left = end; left > 0; left--) {
      if (next >= end) next = 0
      const place = places[start + next]!
      const member = memberAt(place)
      if (free[member]! < level) {
        this.#drop(lane, next, 1)
        end--
      } else if (this.#costOf(place, at) <= this.#limit) return member
      else next++
    }
    return -1
  }

  /** What the task is expected to cost with this member, as its step says; Infinity: it will not do. */
  #costOf(place: number, at: number): number {
    const { factors, millis, wanted } = this.#fitting
    const member = memberAt(place)
    const factor = factors[at]!
    if (wanted.gpus > 1) {
      if (this.#priceOf(member) * wholeMilli > this.#priceMost) return Infinity
      const gpus = cheapestOn(member, this.#index, this.#asked)
      if (!gpus) return Infinity
      const step = stepOf(costTogether(gpus, this.#index))
      // It may lie right all the same, where other GPUs of it are chosen than the cheapest: it is looked at in vain then.
      if (step !== stepAt(place)) this.#index.unsettle(member)
      return costFrom(step) * factor
    }
    const { free, price } = this.#index.table
    const milliEach = millis[at]!
    if (free[member]! < milliEach || price[member]! * milliEach > this.#priceMost) return Infinity
    if (!this.#isEachTheSame && !willDo(this.#index.gpu(member), this.#asked)) return Infinity
    return costFrom(stepAt(place)) * factor
  }

  /** So many, from there on, that have too little free. */
  #drop(lane: number, at: number, count: number) {
    const { lanes } = this.#index
    const first = lanes.starts[lane]! + at
    for (let next = 0; next < count; next++) this.#note(memberAt(lanes.places[first + next]!), lane)
    lanes.drop(lane, at, count)
  }

  /** What the lane says of its members no longer counts this one. Machines tell by themselves when they have more free. */
  #note(member: number, lane: number) {
    if (this.#fitting.wanted.gpus === 1) this.#index.table.missing[member]! |= 1 << lane
  }

  /** What members have free. */
  #freeOf(): Uint16Array {
    const { free, wholeOnMachine } = this.#index.table
    return this.#fitting.wanted.gpus > 1 ? wholeOnMachine : free
  }

  /** Of what the task takes: no less than this. */
  #priceOf(member: number): number {
    const { price, priceOnMachine } = this.#index.table
    const { gpus } = this.#fitting.wanted
    return gpus === 1 ? price[member]! : gpus * priceOnMachine[member]!
  }
}
