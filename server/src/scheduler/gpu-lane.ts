/*
 * Members in the sequence of their cost, coarsely: costs that are within a step of each other count as equal. A member that has
 * less free than its lane asks for stays where it is until a search comes upon it. So taking a GPU touches no lane, and giving it
 * back only those that it was missed in.
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

/** A member's place is one number, by which a lane is sorted: its step, and below that the member's own number, of 32 bits. */
const placeOf = (step: number, member: number): number => step * 2 ** 32 + member
export const stepAt = (place: number): number => Math.floor(place * 2 ** -32)
export const memberAt = (place: number): number => place >>> 0

export class Lane {
  readonly number: number
  /** What a member has to have free to be found here: thousandths of a GPU, or whole GPUs of a machine. */
  readonly level: number
  /** Lowest first. */
  readonly places: number[] = []
  readonly #lanes: Lanes

  constructor(lanes: Lanes, number: number, level: number) {
    this.#lanes = lanes
    this.number = number
    this.level = level
  }

  /** Does nothing if it is there already. */
  add(step: number, member: number, price: number) {
    const { places, number } = this
    const { costFrom: costs, priceFrom: prices, sizes } = this.#lanes
    if (price < prices[number]!) prices[number] = price
    const place = placeOf(step, member)
    const at = firstFrom(place, places)
    if (at < places.length && places[at] === place) return
    places.push(place)
    for (let to = places.length - 1; to > at; to--) places[to] = places[to - 1]!
    places[at] = place
    sizes[number] = places.length
    if (at === 0) costs[number] = costFrom(step)
  }

  /** Does nothing if it is not there. */
  remove(step: number, member: number) {
    const place = placeOf(step, member)
    const at = firstFrom(place, this.places)
    if (at < this.places.length && this.places[at] === place) this.drop(at, 1)
  }

  /** So many, from here on. */
  drop(at: number, count: number) {
    const { places, number } = this
    const { costFrom: costs, priceFrom: prices, sizes } = this.#lanes
    for (let from = at + count; from < places.length; from++) places[from - count] = places[from]!
    places.length -= count
    sizes[number] = places.length
    if (at === 0) costs[number] = places.length === 0 ? Infinity : costFrom(stepAt(places[0]!))
    if (places.length === 0) prices[number] = Infinity
  }

  /** How many are in this step or a lower one. */
  countUpTo(step: number): number {
    return firstFrom(placeOf(step + 1, 0), this.places)
  }
}

/** Of all lanes, by their numbers, what a search may pass one over for: it reads hundreds at a time, so they lie in arrays. */
export class Lanes {
  readonly #lanes: Lane[] = []
  readonly #spare: number[] = []
  /** What the first member costs at least; Infinity: there is none. */
  costFrom = new Float64Array(64).fill(Infinity)
  /** No member has a lower price. Lower than any has, once the cheapest has left; whoever finds that raises it. */
  priceFrom = new Float64Array(64).fill(Infinity)
  /** How many members there are, those included that have too little free. */
  sizes = new Int32Array(64)

  of(number: number): Lane {
    return this.#lanes[number]!
  }

  create(level: number): Lane {
    const number = this.#spare.pop() ?? this.#lanes.length
    if (number === this.sizes.length) this.#grow()
    const lane = new Lane(this, number, level)
    this.#lanes[number] = lane
    return lane
  }

  /** Its number is for others. Whoever remembers it has to be told (`GpuIndex.numbering`). */
  release(lane: Lane) {
    lane.drop(0, lane.places.length)
    this.#spare.push(lane.number)
  }

  #grow() {
    const { costFrom: costs, priceFrom: prices, sizes } = this
    const length = 2 * sizes.length
    this.costFrom = new Float64Array(length).fill(Infinity)
    this.priceFrom = new Float64Array(length).fill(Infinity)
    this.sizes = new Int32Array(length)
    this.costFrom.set(costs)
    this.priceFrom.set(prices)
    this.sizes.set(sizes)
  }
}

/** Before which of them it would stand. */
function firstFrom(place: number, places: readonly number[]): number {
  let low = 0
  for (let high = places.length; low < high;) {
    const middle = (low + high) >> 1
    if (places[middle]! < place) low = middle + 1
    else high = middle
  }
  return low
}
