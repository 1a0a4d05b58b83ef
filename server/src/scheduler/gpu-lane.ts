/**
 * Members in the sequence of their cost, coarsely: those whose costs are within a step of each other, and which leave the same
 * behind when they are taken, are one pool of equals. Adding and removing cost the same however many members there are.
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

export type Pool<Member> = {
  readonly step: number
  /** What the members have free: see `Lane`. */
  readonly free: number
  readonly seats: Seat<Member>[]
  /** No member has a lower price. Lower than any has, once the cheapest has left; whoever finds that raises it. */
  priceFrom: number
}

type Rung<Member> = { readonly step: number; readonly pools: Pool<Member>[] }

export class Lane<Member> {
  /** Cheapest first; none is empty. */
  readonly rungs: Rung<Member>[] = []

  /** What the cheapest member costs at least; Infinity: there is none. */
  get costFrom(): number {
    const [first] = this.rungs
    return first ? costFrom(first.step) : Infinity
  }

  add(seat: Seat<Member>, { cost, free, price }: { cost: number; free: number; price: number }) {
    const step = stepOf(cost)
    const rung = this.#rung(step)
    const pool = poolIn(rung, free)
    pool.priceFrom = Math.min(pool.priceFrom, price)
    seat.pool = pool
    seat.at = pool.seats.length
    pool.seats.push(seat)
  }

  /** Does nothing if it is not in. */
  remove(seat: Seat<Member>) {
    const { pool, at } = seat
    if (!pool) return
    const last = pool.seats.pop()!
    if (last !== seat) {
      pool.seats[at] = last
      last.at = at
    }
    seat.pool = null
    if (pool.seats.length === 0) this.#drop(pool)
  }

  #rung(step: number): Rung<Member> {
    const index = this.#indexOf(step)
    const found = this.rungs[index]
    if (found?.step === step) return found
    const rung = { step, pools: [] }
    this.rungs.splice(index, 0, rung)
    return rung
  }

  #drop(pool: Pool<Member>) {
    const index = this.#indexOf(pool.step)
    const { pools } = this.rungs[index]!
    const last = pools.pop()!
    if (last !== pool) pools[pools.indexOf(pool)] = last
    if (pools.length === 0) this.rungs.splice(index, 1)
  }

  /** Of the first rung that is not cheaper. */
  #indexOf(step: number): number {
    let low = 0
    for (let high = this.rungs.length; low < high;) {
      const middle = (low + high) >> 1
      if (this.rungs[middle]!.step < step) low = middle + 1
      else high = middle
    }
    return low
  }
}

function poolIn<Member>({ step, pools }: Rung<Member>, free: number): Pool<Member> {
  for (const pool of pools) if (pool.free === free) return pool
  const pool = { step, free, seats: [], priceFrom: Infinity }
  pools.push(pool)
  return pool
}

/** A lane for each profile, and what a search may pass it over for where it reads it without a detour. */
export class Lanes<Member> {
  readonly #lanes: (Lane<Member> | undefined)[] = []
  /** By profile number: what the cheapest in the lane costs at least. Infinity: it is empty. */
  readonly costFrom: number[] = []
  /** By profile number: nothing in the lane has a lower price. */
  readonly priceFrom: number[] = []

  /** Of the profile with this number. */
  of(profile: number): Lane<Member> | undefined {
    return this.#lanes[profile]
  }

  add(profile: number, seat: Seat<Member>, place: { cost: number; free: number; price: number }) {
    while (this.#lanes.length <= profile) {
      this.#lanes.push(undefined)
      this.costFrom.push(Infinity)
      this.priceFrom.push(Infinity)
    }
    const lane = (this.#lanes[profile] ??= new Lane<Member>())
    lane.add(seat, place)
    this.costFrom[profile] = lane.costFrom
    if (place.price < this.priceFrom[profile]!) this.priceFrom[profile] = place.price
  }

  remove(profile: number, seat: Seat<Member>) {
    const lane = this.#lanes[profile]
    if (!lane || !seat.pool) return
    lane.remove(seat)
    this.costFrom[profile] = lane.costFrom
    if (lane.rungs.length === 0) this.priceFrom[profile] = Infinity
  }
}
