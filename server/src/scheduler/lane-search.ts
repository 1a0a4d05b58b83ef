import { wholeMilli } from '@orbyte/protocol'
import type { Fitting, Place } from './fitting.ts'
import type { GpuIndex } from './gpu-index.ts'
import type { Machine, Slot } from './gpu-slot.ts'
import { costFrom, type Pool, stepShare } from './gpu-lane.ts'
import { nearEqualShare } from './matching.ts'

export type AnyPool = Pool<Slot> | Pool<Machine>
/** A member of a pool that may be chosen from. */
export type Drawn = {
  readonly pool: AnyPool
  /** Which of its seats. */
  readonly at: number
  /** Of the lane's profile in the fitting ones. */
  readonly entry: number
  /** What an hour's cost is multiplied by. */
  readonly factor: number
}

/** What costs no more than this above the least is near-equal: costs are compared in steps, and it may be at the end of its step. */
const nearShare = (1 + nearEqualShare) / (1 + stepShare) - 1

/**
 * Finds where what is near-equal to the cheapest lies. A lane tells, in an array, what the first of its pools costs at least. So
 * only the lanes are looked into that may have the cheapest, and then those that are drawn.
 */
export class LaneSearch {
  readonly #index: GpuIndex
  readonly #passedOver = new Set<AnyPool>()
  #fitting!: Fitting
  #priceMost = Infinity
  #limit = Infinity
  #cheapest = 0
  /** What the task is expected to cost in each lane at least: of each place, of each entry. */
  #costs = new Float64Array(0)
  #lanes = 0
  /** The lanes that may have something near-equal, by their places in `costs`, and how many members they have in all. */
  #near = new Int32Array(0)
  #nearCount = 0
  #members = 0

  constructor(index: GpuIndex) {
    this.#index = index
  }

  get passedOver(): number {
    return this.#passedOver.size
  }

  begin(fitting: Fitting, maxPriceMicrosPerHour: number | null) {
    this.#fitting = fitting
    this.#priceMost = (maxPriceMicrosPerHour ?? Infinity) * wholeMilli
    this.#passedOver.clear()
  }

  /** Nobody in it will do. */
  passOver(pool: AnyPool) {
    this.#passedOver.add(pool)
  }

  /** False: there is nothing that costs less than `costMost`. */
  find(costMost: number): boolean {
    let cheapest = this.#readCosts()
    if (cheapest < 0) return false
    const costs = this.#costs
    const lanes = this.#lanes
    const bound = costs[cheapest]!
    let least = this.#lookInto(cheapest)
    for (let lane = 0; least > bound && lane < lanes; lane++) {
      if (costs[lane]! >= least || this.#lookInto(lane) >= least) continue
      cheapest = lane
      least = costs[lane]!
    }
    if (least === Infinity || least >= costMost) return false
    this.#cheapest = cheapest
    this.#limit = Math.min(costMost, least * (1 + nearShare))
    this.#nearCount = 0
    this.#members = 0
    const limit = this.#limit
    for (let lane = 0; lane < lanes; lane++) {
      if (costs[lane]! > limit) continue
      this.#near[this.#nearCount++] = lane
      this.#members += this.#sizeOf(lane)
    }
    return true
  }

  /** `at`: from 0 to below 1; over all of it each lane has its share by its size. Null: nothing in the lane is near-equal. */
  draw(at: number): Drawn | null {
    let position = Math.floor(at * this.#members)
    for (let near = 0; near < this.#nearCount; near++) {
      const lane = this.#near[near]!
      const size = this.#sizeOf(lane)
      if (position < size) return this.#drawIn(lane, position / size)
      position -= size
    }
    return null
  }

  /** Null: all of the cheapest was passed over. */
  drawCheapest(): Drawn | null {
    return this.#drawIn(this.#cheapest, 0)
  }

  /** Writes `costs`. Which is least; -1: there is nothing. */
  #readCosts(): number {
    const { places, numbers, milliEach, machineSize } = this.#fitting
    const priceMost = this.#priceMost
    this.#lanes = places.length * numbers.length
    if (this.#costs.length < this.#lanes) {
      this.#costs = new Float64Array(2 * this.#lanes)
      this.#near = new Int32Array(2 * this.#lanes)
    }
    const costs = this.#costs
    let cheapest = -1
    let least = Infinity
    let lane = 0
    for (const { lanes, warmth } of places) {
      const factors = this.#fitting.factors[warmth]
      const { costFrom: costsFrom, priceFrom } = lanes
      for (let entry = 0; entry < numbers.length; entry++, lane++) {
        const number = numbers[entry]!
        // Beyond the end of the arrays there are no lanes.
        let cost = number < costsFrom.length ? costsFrom[number]! * factors[entry]! : Infinity
        if (cost < Infinity && priceFrom[number]! * milliEach[entry]! > priceMost) cost = Infinity
        if (machineSize && cost < Infinity && !this.#index.mayBeAsLarge(number, machineSize)) cost = Infinity
        costs[lane] = cost
        if (cost >= least) continue
        cheapest = lane
        least = cost
      }
    }
    return cheapest
  }

  /** What the cheapest in it that may be chosen costs at least. */
  #lookInto(lane: number): number {
    const { place, entry, number, factor } = this.#laneOf(lane)
    const pools = place.lanes.of(number)!.pools
    let cost = Infinity
    let priceFrom = Infinity
    for (const pool of pools) {
      if (pool.priceFrom < priceFrom) priceFrom = pool.priceFrom
      if (!this.#mayBeChosen(pool, place, entry)) continue
      cost = costFrom(pool.step) * factor
      break
    }
    // All of it was seen: this is from what price on there is anything.
    if (cost === Infinity && priceFrom > place.lanes.priceFrom[number]!) place.lanes.priceFrom[number] = priceFrom
    this.#costs[lane] = cost
    return cost
  }

  #drawIn(lane: number, share: number): Drawn | null {
    const { place, entry, number, factor } = this.#laneOf(lane)
    const { pools } = place.lanes.of(number)!
    const limit = this.#limit
    let end = 0
    let members = 0
    for (; end < pools.length && costFrom(pools[end]!.step) * factor <= limit; end++)
      if (this.#mayBeChosen(pools[end]!, place, entry)) members += pools[end]!.seats.length
    let at = Math.floor(share * members)
    for (let index = 0; index < end; index++) {
      const pool = pools[index]!
      if (!this.#mayBeChosen(pool, place, entry)) continue
      if (at < pool.seats.length) return { pool, at, entry, factor }
      at -= pool.seats.length
    }
    return null
  }

  #mayBeChosen(pool: AnyPool, { freeFrom, freeTo }: Place, entry: number): boolean {
    const milli = this.#fitting.milliEach[entry]!
    const needed = this.#fitting.wanted.part === null ? freeFrom : milli
    if (pool.free < needed || pool.free > freeTo) return false
    if (pool.priceFrom * milli > this.#priceMost) return false
    return this.#passedOver.size === 0 || !this.#passedOver.has(pool)
  }

  #laneOf(lane: number) {
    const { places, numbers, factors } = this.#fitting
    const entry = lane % numbers.length
    const place = places[(lane - entry) / numbers.length]!
    return { place, entry, number: numbers[entry]!, factor: factors[place.warmth][entry]! }
  }

  #sizeOf(lane: number): number {
    const { places, numbers } = this.#fitting
    const entry = lane % numbers.length
    return places[(lane - entry) / numbers.length]!.lanes.sizes[numbers[entry]!]!
  }
}
