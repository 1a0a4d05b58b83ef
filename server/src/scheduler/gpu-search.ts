import type { MarketGpu } from '../gpus/gpu-registry.ts'
import { type Fitting, Fittings, type Place } from './fitting.ts'
import { type GpuIndex, type Machine, Slot } from './gpu-index.ts'
import { costFrom, type Pool, stepShare } from './gpu-lane.ts'
import { milliOn, warmthOn } from './expected-cost.ts'
import { judgeFit, nearEqualShare, type Wanted } from './matching.ts'
import { isLargeEnough, isPassedOver } from './rankers.ts'
import { wholeMilli } from './packing.ts'

/** What a task gets: one GPU or part of it, or several GPUs of one machine. */
export type Choice = { readonly gpus: readonly MarketGpu[]; readonly milliEach: number }
export type At = {
  readonly nowMs: number
  /** From 0 to below 1. */
  random(): number
}

/** What costs no more than this above the least is near-equal: costs are compared in steps, and it may be at the end of its step. */
const nearShare = (1 + nearEqualShare) / (1 + stepShare) - 1
/** After so many pools in which nobody will do, it is quicker to try all. */
const passedOverMax = 30
/** Choices that leave the market worse off by no more than this do not differ. */
const samePenalty = 0.02

/** A pool that may be chosen from. */
type Candidate = {
  readonly pool: Pool<Slot> | Pool<Machine>
  /** What the task is expected to cost there at least. */
  readonly cost: number
  /** What an hour's cost is multiplied by. */
  readonly factor: number
  /** Of its profile in the fitting ones. */
  readonly entry: number
  /** Whether its pool tells what is left of the machine. */
  readonly isPacked: boolean
}
type Priced = { readonly choice: Choice; readonly cost: number }

/** Finds the best free GPUs for a task: see `choose`. */
export class GpuSearch {
  readonly #index: GpuIndex
  readonly #fittings: Fittings
  // Of the search that is going on.
  #candidates: Candidate[] = []
  #limit = Infinity
  readonly #passedOver = new Set<Candidate['pool']>()
  #fallback: Priced | null = null

  constructor(index: GpuIndex) {
    this.#index = index
    this.#fittings = new Fittings(index)
  }

  /** A task has come that wants this: what comes often is what room is kept for. */
  arrived(wanted: Wanted) {
    this.#fittings.arrived(wanted)
  }

  /**
   * The best of what is free and fits. No other is expected to cost less by more than `nearEqualShare`. Among those within it, the
   * choice is where the rest of the market is left better off, and else random, so that a new provider gets a first task.
   * Null: nothing that fits is free.
   */
  choose(wanted: Wanted, at: At): Choice | null {
    if (wanted.requirements.gpu_id !== undefined) return this.#chooseNamed(wanted, at)
    const fitting = this.#fittings.of(wanted, at.nowMs)
    this.#forget()
    while (this.#passedOver.size < passedOverMax) {
      this.#findCandidates(fitting, wanted)
      if (this.#candidates.length === 0) return this.#fallback?.choice ?? null
      const candidate = this.#drawCandidate(at.random())
      const choice = this.#drawFrom(candidate, wanted, at)
      if (choice) return choice
      // Nobody in it will do: they have failed this task, their machines are too small, or who was cheap enough has left.
      this.#passedOver.add(candidate.pool)
      raisePriceFrom(candidate.pool, wanted.gpus)
    }
    return this.#chooseByTrying(fitting, wanted, at)
  }

  /** Looks at everything that fits: for what so few have that pools of equals are no help. */
  #chooseByTrying({ numbers, factors }: Fitting, wanted: Wanted, at: At): Choice | null {
    let best: Priced | null = null
    for (const [entry, number] of numbers.entries())
      for (const slot of this.#index.slotsOf(number)) {
        const found =
          wanted.gpus > 1
            ? cheapestOf(slot.machine, wanted, at)
            : isFree(slot, wanted)
              ? take([slot], wanted, at)
              : null
        if (!found) continue
        const cost = found.cost * factors[warmthOn(wanted, slot.gpu)][entry]!
        if (best === null || cost < best.cost) best = { choice: found.choice, cost }
      }
    return best?.choice ?? null
  }

  /** The highest price of a GPU that fits, free or busy. Null: none fits. Of one GPU at a time. */
  dearestFitting(wanted: Wanted, nowMs: number): number | null {
    const { gpu_id } = wanted.requirements
    if (gpu_id !== undefined) {
      const gpu = this.#index.slotOf(gpu_id)?.gpu
      return gpu && judgeFit(wanted, gpu, nowMs).rejection === null ? gpu.priceMicrosPerHour : null
    }
    const { numbers, milliEach, machineSize } = this.#fittings.of(wanted, nowMs)
    const most = (wanted.maxPriceMicrosPerHour ?? Infinity) * wholeMilli
    let dearest: number | null = null
    for (const [entry, number] of numbers.entries()) {
      const found = machineSize
        ? this.#dearestOnMachine(number, wanted, nowMs)
        : this.#index.dearestUpTo(most / milliEach[entry]!, number)
      if (found !== null && (dearest === null || found > dearest)) dearest = found
    }
    return dearest
  }

  #dearestOnMachine(number: number, wanted: Wanted, nowMs: number): number | null {
    let dearest: number | null = null
    for (const { gpu } of this.#index.slotsOf(number))
      if (gpu.priceMicrosPerHour > (dearest ?? -1) && judgeFit(wanted, gpu, nowMs).rejection === null)
        dearest = gpu.priceMicrosPerHour
    return dearest
  }

  /** Whether a GPU fits, free or busy, that has not failed the task. */
  fitsAnother(wanted: Wanted, nowMs: number): boolean {
    for (const number of this.#fittings.of(wanted, nowMs).numbers)
      for (const { gpu } of this.#index.slotsOf(number))
        if (!wanted.failedGpus.has(gpu.id) && judgeFit(wanted, gpu, nowMs).rejection === null) return true
    return false
  }

  #forget() {
    this.#passedOver.clear()
    this.#fallback = null
  }

  #chooseNamed(wanted: Wanted, at: At): Choice | null {
    const slot = this.#index.slotOf(wanted.requirements.gpu_id!)
    if (!slot || !this.#fittings.of(wanted, at.nowMs).numbers.includes(slot.profile.number)) return null
    if (wanted.gpus > 1) return cheapestOf(slot.machine, wanted, at)?.choice ?? null
    return isFree(slot, wanted) ? (take([slot], wanted, at)?.choice ?? null) : null
  }

  #findCandidates(fitting: Fitting, wanted: Wanted) {
    this.#candidates = []
    this.#limit = this.#fallback?.cost ?? Infinity
    for (const place of fitting.places) this.#look(place, fitting, wanted)
    // The limit has come down while looking.
    const limit = this.#limit
    this.#candidates = this.#candidates.filter(({ cost }) => cost <= limit)
    if (this.#candidates.length > 1) this.#keepBestPacked(fitting)
  }

  #keepBestPacked(fitting: Fitting) {
    const { value } = this.#fittings
    const penalties = this.#candidates.map(({ isPacked, entry, pool }) => {
      return isPacked ? fitting.penalty(entry, pool.free, value) : 0
    })
    const most = Math.min(...penalties) + samePenalty
    this.#candidates = this.#candidates.filter((_, index) => penalties[index]! <= most)
  }

  #look(place: Place, fitting: Fitting, wanted: Wanted) {
    const { numbers, milliEach } = fitting
    const factors = fitting.factors[place.warmth]
    const { costFrom: cheapest, priceFrom } = place.lanes
    const priceMost = (wanted.maxPriceMicrosPerHour ?? Infinity) * wholeMilli
    // The best lane first: it tells what of the others need not be looked at. Beyond the end of the arrays there are no lanes.
    let best = -1
    let least = this.#limit
    for (let entry = 0; entry < numbers.length; entry++) {
      const number = numbers[entry]!
      const cost = number < cheapest.length ? cheapest[number]! * factors[entry]! : Infinity
      if (cost >= least || priceFrom[number]! * milliEach[entry]! > priceMost) continue
      best = entry
      least = cost
    }
    if (best < 0) return
    this.#lookInto(place, best, { fitting, priceMost })
    for (let entry = 0; entry < numbers.length; entry++) {
      const number = numbers[entry]!
      const cost = number < cheapest.length ? cheapest[number]! * factors[entry]! : Infinity
      if (cost > this.#limit || entry === best || priceFrom[number]! * milliEach[entry]! > priceMost) continue
      this.#lookInto(place, entry, { fitting, priceMost })
    }
  }

  #lookInto(place: Place, entry: number, { fitting, priceMost }: { fitting: Fitting; priceMost: number }) {
    const { machineSize, numbers } = fitting
    const number = numbers[entry]!
    const lane = place.lanes.of(number)
    if (!lane || (machineSize && !this.#index.mayBeAsLarge(number, machineSize))) return
    const { pools } = lane
    const factor = fitting.factors[place.warmth][entry]!
    const milli = fitting.milliEach[entry]!
    const needed = fitting.wanted.part === null ? place.freeFrom : milli
    const unitPriceMost = priceMost / milli
    let priceFrom = Infinity
    let limit = this.#limit
    for (const pool of pools) {
      const cost = costFrom(pool.step) * factor
      if (cost > limit) {
        this.#limit = limit
        return
      }
      if (pool.priceFrom < priceFrom) priceFrom = pool.priceFrom
      if (pool.free < needed || pool.free > place.freeTo || pool.priceFrom > unitPriceMost) continue
      if (this.#passedOver.size > 0 && this.#passedOver.has(pool)) continue
      limit = Math.min(limit, cost * (1 + nearShare))
      this.#candidates.push({ pool, cost, factor, entry, isPacked: place.isPacked })
    }
    this.#limit = limit
    // All of it was seen: this is from what price on there is anything.
    if (priceFrom > place.lanes.priceFrom[number]!) place.lanes.priceFrom[number] = priceFrom
  }

  /** Each member of each pool has the same chance. */
  #drawCandidate(random: number): Candidate {
    let members = 0
    for (const { pool } of this.#candidates) members += pool.seats.length
    let drawn = random * members
    for (const candidate of this.#candidates) {
      drawn -= candidate.pool.seats.length
      if (drawn < 0) return candidate
    }
    return this.#candidates.at(-1)!
  }

  #drawFrom({ pool: { seats, step }, factor }: Candidate, wanted: Wanted, at: At): Choice | null {
    const first = Math.floor(at.random() * seats.length)
    for (let next = 0; next < seats.length; next++) {
      const { member } = seats[(first + next) % seats.length]!
      const found = member instanceof Slot ? take([member], wanted, at) : cheapestOf(member, wanted, at)
      if (!found) continue
      if (found.cost < costFrom(step + 1) * (1 + 1e-9)) return found.choice
      // A machine whose cheapest GPUs will not do is dearer than its place says.
      const cost = found.cost * factor
      if (cost < (this.#fallback?.cost ?? Infinity)) this.#fallback = { choice: found.choice, cost }
    }
    return null
  }
}

function isFree(slot: Slot, wanted: Wanted): boolean {
  return wanted.part === null ? slot.isWhole : slot.isShared && slot.freeMilli >= milliOn(wanted, slot.gpu)
}

function raisePriceFrom(pool: Candidate['pool'], gpus: number) {
  pool.priceFrom = Infinity
  for (const { member } of pool.seats) {
    const price = member instanceof Slot ? member.price : member.priceOf(gpus)
    if (price < pool.priceFrom) pool.priceFrom = price
  }
}

/** The cheapest of the machine's GPUs that will do; where they would be too dear together, those with the lowest prices. */
function cheapestOf(machine: Machine, wanted: Wanted, at: At): Priced | null {
  const slots = machine.whole().filter((slot) => willDo(slot, wanted, at))
  if (slots.length < wanted.gpus) return null
  const byPrice = () => slots.sort((a, b) => a.price - b.price).slice(0, wanted.gpus)
  return take(slots.slice(0, wanted.gpus), wanted, at) ?? take(byPrice(), wanted, at)
}

/** For what is particular to one GPU, but for its price. */
function willDo({ gpu }: Slot, wanted: Wanted, { nowMs }: At): boolean {
  return !isPassedOver(wanted, gpu.id, nowMs) && isLargeEnough(wanted, gpu)
}

function take(slots: readonly Slot[], wanted: Wanted, at: At): Priced | null {
  const milliEach = milliOn(wanted, slots[0]!.gpu)
  let [price, cost] = [0, 0]
  for (const slot of slots) {
    if (!willDo(slot, wanted, at)) return null
    price += (slot.price * milliEach) / wholeMilli
    cost += slot.cost
  }
  if (wanted.maxPriceMicrosPerHour !== null && price > wanted.maxPriceMicrosPerHour) return null
  return { choice: { gpus: slots.map(({ gpu }) => gpu), milliEach }, cost }
}
