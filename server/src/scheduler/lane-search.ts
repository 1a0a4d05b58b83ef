import type { Fitting } from './fitting.ts'
import type { GpuIndex } from './gpu-index.ts'
import { costFrom, type Lane, memberAt, stepAt, stepOf, stepShare } from './gpu-lane.ts'
import { nearEqualShare, type Wanted } from './matching.ts'
import { wholeMilli } from './packing.ts'

/** What costs no more than this above the least is near-equal: costs are compared in steps, and it may be at the end of its step. */
const nearShare = (1 + nearEqualShare) / (1 + stepShare) - 1

/** What decides about a member, beside what the table says of it. */
export type Judge = {
  /** Whether the GPU of this number will do. Null: each will. */
  readonly gpu: ((number: number) => boolean) | null
  /** What the cheapest GPUs of a machine that will do count together; Infinity: none will. */
  readonly machine: (number: number) => number
}

/**
 * Finds where what is near-equal to the cheapest lies. Arrays tell what the first in each lane costs at least. So only the lanes are
 * looked into that may have the cheapest, and then those that are drawn.
 */
export class LaneSearch {
  readonly #index: GpuIndex
  #fitting!: Fitting
  #judge!: Judge
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
  find(fitting: Fitting, judge: Judge, { maxPriceMicrosPerHour }: Wanted): boolean {
    this.#fitting = fitting
    this.#judge = judge
    this.#priceMost = (maxPriceMicrosPerHour ?? Infinity) * wholeMilli
    let cheapest = this.#readCosts()
    if (cheapest < 0) return false
    const costs = this.#costs
    const { length } = fitting.lanes
    const bound = costs[cheapest]!
    let least = this.#lookInto(cheapest, Infinity)
    for (let lane = 0; least > bound && lane < length; lane++) {
      if (costs[lane]! >= least) continue
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
    const { lanes, factors, owners, machineSize } = this.#fitting
    const { costFrom: costsFrom, priceFrom: pricesFrom } = this.#index.lanes
    if (this.#costs.length < lanes.length) {
      this.#costs = new Float64Array(2 * lanes.length)
      this.#near = new Int32Array(2 * lanes.length)
    }
    const costs = this.#costs
    const priceMost = this.#priceMost
    let cheapest = -1
    let least = Infinity
    for (let lane = 0; lane < lanes.length; lane++) {
      const number = lanes[lane]!
      let cost = costsFrom[number]! * factors[lane]!
      if (pricesFrom[number]! * owners[lane]!.milliEach > priceMost) cost = Infinity
      if (machineSize && !owners[lane]!.profile.mayBeAsLarge(machineSize)) cost = Infinity
      costs[lane] = cost
      if (cost >= least) continue
      cheapest = lane
      least = cost
    }
    return cheapest
  }

  #findNear() {
    const { lanes } = this.#fitting
    const { sizes } = this.#index.lanes
    this.#nearCount = 0
    this.#members = 0
    for (let lane = 0; lane < lanes.length; lane++) {
      if (this.#costs[lane]! > this.#limit) continue
      this.#near[this.#nearCount++] = lane
      this.#members += sizes[lanes[lane]!]!
    }
  }

  /** What the cheapest in it that will do costs, if that is less than `least`. What has too little free for the lane is dropped. */
  #lookInto(at: number, least: number): number {
    const lane = this.#laneAt(at)
    const { places } = lane
    const factor = this.#fitting.factors[at]!
    const free = this.#freeOf()
    let gone = 0
    while (gone < places.length && free[memberAt(places[gone]!)]! < lane.level) gone++
    if (gone > 0) lane.drop(0, gone)
    let cost = least
    let next = 0
    let bound = Infinity
    for (; next < places.length; next++) {
      bound = costFrom(stepAt(places[next]!)) * factor
      if (bound >= cost) break
      cost = Math.min(cost, this.#costOf(places[next]!, at))
    }
    // All of it was seen: this is from what price on there is anything.
    if (next === places.length) {
      this.#raisePriceFrom(lane)
      bound = Infinity
    }
    this.#costs[at] = Math.min(cost === least ? Infinity : cost, bound)
    return cost
  }

  #raisePriceFrom({ places, number, level }: Lane) {
    let from = Infinity
    const free = this.#freeOf()
    for (const place of places)
      if (free[memberAt(place)]! >= level) from = Math.min(from, this.#priceOf(memberAt(place)))
    this.#index.lanes.priceFrom[number] = from
  }

  #drawIn(at: number, share: number): number {
    const lane = this.#laneAt(at)
    const { places } = lane
    const free = this.#freeOf()
    this.lane = at
    let end = lane.countUpTo(stepOf(this.#limit / this.#fitting.factors[at]!))
    let next = Math.floor(share * end)
    for (let left = end; left > 0; left--) {
      if (next >= end) next = 0
      const place = places[next]!
      const member = memberAt(place)
      if (free[member]! < lane.level) {
        lane.drop(next, 1)
        end--
      } else if (this.#costOf(place, at) <= this.#limit) return member
      else next++
    }
    return -1
  }

  /** What the task is expected to cost with this member, as its step says; Infinity: it will not do. */
  #costOf(place: number, at: number): number {
    const { factors, owners, wanted, freeMost } = this.#fitting
    const member = memberAt(place)
    const factor = factors[at]!
    if (wanted.gpus > 1) {
      const together = this.#judge.machine(member)
      return together === Infinity ? Infinity : costFrom(stepOf(together)) * factor
    }
    const { free, price } = this.#index.table
    const { milliEach } = owners[at]!
    if (free[member]! < milliEach || free[member]! > freeMost || price[member]! * milliEach > this.#priceMost) return Infinity
    if (this.#judge.gpu && !this.#judge.gpu(member)) return Infinity
    return costFrom(stepAt(place)) * factor
  }

  /** What members have free. */
  #freeOf(): Uint16Array {
    const { free, wholeOnMachine } = this.#index.table
    return this.#fitting.wanted.gpus > 1 ? wholeOnMachine : free
  }

  #priceOf(member: number): number {
    const { gpus } = this.#fitting.wanted
    if (gpus === 1) return this.#index.table.price[member]!
    return gpus * this.#index.cheapestOn(member)
  }

  #laneAt(at: number): Lane {
    return this.#index.lanes.of(this.#fitting.lanes[at]!)
  }
}
