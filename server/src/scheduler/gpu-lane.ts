import { longer } from '../gpus/numbered.ts'
import { Space } from './flat-lists.ts'

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
export const placeOf = (step: number, member: number): number => step * 2 ** 32 + member
export const stepAt = (place: number): number => Math.floor(place * 2 ** -32)
export const memberAt = (place: number): number => place >>> 0

const capacityMin = 4

/** Lanes that one search reads: their numbers are neighbours, and so they are in memory. These are the numbers for its next ones. */
export type Row = number[]
/** So many numbers are set aside for a row at a time: two lines of memory of what each lane costs at least. */
const rowStep = 16

/** All lanes, by number. They lie in a few arrays: a search reads hundreds, and in objects each would be a detour of its own. */
export class Lanes {
  /** Those of profiles, by level. */
  readonly #rows = new Map<number, Row>()
  /** Of rows that are no more. */
  readonly #spare: number[] = []
  #count = 0
  /** What a member has to have free to be found in the lane: thousandths of a GPU, or whole GPUs of a machine. */
  levels = new Uint16Array(64)
  /** What the first member costs at least; Infinity: there is none. */
  costFrom = new Float64Array(64).fill(Infinity)
  /** No member has a lower price. Lower than any has, once the cheapest has left; whoever finds that raises it. */
  priceFrom = new Float64Array(64).fill(Infinity)
  /** Where its members' places begin in `places`, and how many they are, those included that have too little free. */
  starts = new Int32Array(64)
  sizes = new Int32Array(64)
  #capacities = new Int32Array(64)
  /** Of each lane together, lowest first. */
  places = new Float64Array(1_024)
  readonly #space = new Space()

  create(level: number, row: Row = this.#rowOf(level)): number {
    if (row.length === 0) this.#lengthen(row)
    const lane = row.pop()!
    this.levels[lane] = level
    return lane
  }

  /** Its number is for others. Whoever remembers it has to be told (`GpuIndex.numbering`). */
  release(lane: number, row: Row = this.#rowOf(this.levels[lane]!)) {
    this.drop(lane, 0, this.sizes[lane]!)
    row.push(lane)
  }

  /** It has no lanes any more, and will have none. */
  dissolve(row: Row) {
    this.#spare.push(...row.splice(0))
  }

  #rowOf(level: number): Row {
    const known = this.#rows.get(level)
    if (known) return known
    const row: Row = []
    this.#rows.set(level, row)
    return row
  }

  #lengthen(row: Row) {
    if (this.#spare.length === 0) {
      this.#count += rowStep
      if (this.#count > this.sizes.length) this.#grow()
      for (let next = 1; next <= rowStep; next++) this.#spare.push(this.#count - next)
    }
    row.push(...this.#spare.splice(-rowStep))
  }

  /** A member has this place there from here on, if it has not yet. */
  add(lane: number, place: number, price: number) {
    if (price < this.priceFrom[lane]!) this.priceFrom[lane] = price
    const at = this.#firstFrom(lane, place)
    const size = this.sizes[lane]!
    if (at < size && this.places[this.starts[lane]! + at] === place) return
    if (size === this.#capacities[lane]) this.#widen(lane)
    const { places } = this
    const start = this.starts[lane]!
    for (let to = start + size; to > start + at; to--) places[to] = places[to - 1]!
    places[start + at] = place
    this.sizes[lane] = size + 1
    if (at === 0) this.costFrom[lane] = costFrom(stepAt(place))
  }

  /** Does nothing if nobody has this place there. */
  remove(lane: number, place: number) {
    const at = this.#firstFrom(lane, place)
    if (at < this.sizes[lane]! && this.places[this.starts[lane]! + at] === place) this.drop(lane, at, 1)
  }

  /** So many, from here on. */
  drop(lane: number, at: number, count: number) {
    const { places } = this
    const start = this.starts[lane]!
    const size = this.sizes[lane]! - count
    for (let to = start + at; to < start + size; to++) places[to] = places[to + count]!
    this.sizes[lane] = size
    if (at === 0) this.costFrom[lane] = size === 0 ? Infinity : costFrom(stepAt(places[start]!))
    if (size === 0) this.priceFrom[lane] = Infinity
  }

  /** How many are in this step or a lower one. */
  countUpTo(lane: number, step: number): number {
    return this.#firstFrom(lane, placeOf(step + 1, 0))
  }

  /** Before which of them it would stand. */
  #firstFrom(lane: number, place: number): number {
    const { places } = this
    const start = this.starts[lane]!
    let low = start
    for (let high = start + this.sizes[lane]!; low < high;) {
      const middle = (low + high) >> 1
      if (places[middle]! < place) low = middle + 1
      else high = middle
    }
    return low - start
  }

  /** Moves it to where it has twice as much room. */
  #widen(lane: number) {
    const before = this.#capacities[lane]!
    const capacity = Math.max(capacityMin, 2 * before)
    const start = this.#space.take(capacity)
    if (this.#space.end > this.places.length) this.places = longer(this.places)
    const from = this.starts[lane]!
    this.places.copyWithin(start, from, from + this.sizes[lane]!)
    this.starts[lane] = start
    this.#capacities[lane] = capacity
    if (before > 0) this.#space.leave(from, before)
  }

  #grow() {
    const count = this.sizes.length
    this.levels = longer(this.levels)
    this.costFrom = longer(this.costFrom).fill(Infinity, count)
    this.priceFrom = longer(this.priceFrom).fill(Infinity, count)
    this.starts = longer(this.starts)
    this.sizes = longer(this.sizes)
    this.#capacities = longer(this.#capacities)
  }
}
