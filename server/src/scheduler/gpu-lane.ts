/**
 * Members in the sequence of their cost, coarsely: those whose costs are within a step of each other, and which have the same
 * free, are one pool of equals. Adding and removing cost the same however many members there are.
 */

/** A step is so wide: costs in it differ by less than this share. */
export const stepShare = 0.004
const stepLog = Math.log1p(stepShare)
/** Enough for costs of up to 10^18; what costs more is in the last. */
const steps = Math.ceil(Math.log(1e18) / stepLog)
const costsFrom = Float64Array.from({ length: steps + 1 }, (_, step) => Math.exp(step * stepLog))

export const stepOf = (cost: number): number => Math.min(steps - 1, Math.floor(Math.log(Math.max(1, cost)) / stepLog))

/** The least that something in this step costs. */
export const costFrom = (step: number): number => costsFrom[step]!

/** A member's place. It has one seat in each lane that it is in, and keeps it when it moves. */
export type Seat<Member> = { readonly member: Member; pool: Pool<Member> | null; at: number }

/** Where a member lies: the step of its cost, and what it has free. */
export type Place = { readonly step: number; readonly free: number; readonly price: number }

export type Pool<Member> = {
  readonly step: number
  readonly free: number
  readonly seats: Seat<Member>[]
  /** No member has a lower price. Lower than any has, once the cheapest has left; whoever finds that raises it. */
  priceFrom: number
}

export class Lane<Member> {
  /** Cheapest first; none is empty. */
  readonly pools: Pool<Member>[] = []
  /** Of the pools: to search in this is quicker than to look at each. */
  readonly #steps: number[] = []

  /** What the cheapest member costs at least; Infinity: there is none. */
  get costFrom(): number {
    return this.#steps.length === 0 ? Infinity : costFrom(this.#steps[0]!)
  }

  poolFor(step: number, free: number): Pool<Member> {
    let index = this.#firstOf(step)
    for (; this.#steps[index] === step; index++) if (this.pools[index]!.free === free) return this.pools[index]!
    const pool = { step, free, seats: [], priceFrom: Infinity }
    this.pools.splice(index, 0, pool)
    this.#steps.splice(index, 0, step)
    return pool
  }

  /** It is empty. */
  drop(pool: Pool<Member>) {
    let index = this.#firstOf(pool.step)
    while (this.pools[index] !== pool) index++
    this.pools.splice(index, 1)
    this.#steps.splice(index, 1)
  }

  /** The first pool that is not cheaper. */
  #firstOf(step: number): number {
    let low = 0
    for (let high = this.#steps.length; low < high;) {
      const middle = (low + high) >> 1
      if (this.#steps[middle]! < step) low = middle + 1
      else high = middle
    }
    return low
  }
}

/** A lane for each profile, and what a search may pass it over for where it reads it without a detour. */
export class Lanes<Member> {
  readonly #lanes: (Lane<Member> | undefined)[] = []
  /** By profile number: what the cheapest in the lane costs at least. Infinity: it is empty. */
  readonly costFrom: number[] = []
  /** By profile number: nothing in the lane has a lower price. */
  readonly priceFrom: number[] = []
  /** By profile number: how many members the lane has. */
  readonly sizes: number[] = []

  /** Of the profile with this number. */
  of(profile: number): Lane<Member> | undefined {
    return this.#lanes[profile]
  }

  add(profile: number, seat: Seat<Member>, { step, free, price }: Place) {
    while (this.#lanes.length <= profile) {
      this.#lanes.push(undefined)
      this.costFrom.push(Infinity)
      this.priceFrom.push(Infinity)
      this.sizes.push(0)
    }
    const lane = (this.#lanes[profile] ??= new Lane<Member>())
    const pool = lane.poolFor(step, free)
    seat.pool = pool
    seat.at = pool.seats.length
    pool.seats.push(seat)
    this.sizes[profile]!++
    if (seat.at === 0) this.costFrom[profile] = lane.costFrom
    this.#lowerPrice(profile, pool, price)
  }

  /** It stays where it is if that is the same pool. */
  put(profile: number, seat: Seat<Member>, place: Place) {
    const { pool } = seat
    if (pool?.step === place.step && pool.free === place.free) return this.#lowerPrice(profile, pool, place.price)
    this.remove(profile, seat)
    this.add(profile, seat, place)
  }

  /** Does nothing if it is not in. */
  remove(profile: number, seat: Seat<Member>) {
    const { pool, at } = seat
    if (!pool) return
    const last = pool.seats.pop()!
    if (last !== seat) {
      pool.seats[at] = last
      last.at = at
    }
    seat.pool = null
    if (--this.sizes[profile]! === 0) this.priceFrom[profile] = Infinity
    if (pool.seats.length > 0) return
    const lane = this.#lanes[profile]!
    lane.drop(pool)
    this.costFrom[profile] = lane.costFrom
  }

  #lowerPrice(profile: number, pool: Pool<Member>, price: number) {
    if (price < pool.priceFrom) pool.priceFrom = price
    if (price < this.priceFrom[profile]!) this.priceFrom[profile] = price
  }
}
