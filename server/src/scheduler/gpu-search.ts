import type { MarketGpu } from '../gpus/gpu-registry.ts'
import { type Fitting, Fittings } from './fitting.ts'
import type { GpuIndex } from './gpu-index.ts'
import { type Machine, Slot } from './gpu-slot.ts'
import { costFrom } from './gpu-lane.ts'
import { type AnyPool, type Drawn, LaneSearch } from './lane-search.ts'
import { milliOn, warmthOn } from './expected-cost.ts'
import { judgeFit, type Wanted } from './matching.ts'
import { isLargeEnough, isPassedOver } from './rankers.ts'
import { wholeMilli } from './packing.ts'

/** What a task gets: one GPU or part of it, or several GPUs of one machine. */
export type Choice = { readonly gpus: readonly MarketGpu[]; readonly milliEach: number }
export type At = {
  readonly nowMs: number
  /** From 0 to below 1. */
  random(): number
}

/** After so many pools in which nobody will do, it is quicker to try all. */
const passedOverMax = 30
/** So many that are near-equal, drawn at random, are compared for what they leave of their machines. */
const drawsMax = 3

type Asked = { readonly fitting: Fitting; readonly wanted: Wanted; readonly at: At }
type Priced = { readonly choice: Choice; readonly cost: number }
const nothing = { choice: null, cost: Infinity }

/** Finds the best free GPUs for a task: see `choose`. */
export class GpuSearch {
  readonly #index: GpuIndex
  readonly #fittings: Fittings
  readonly #lanes: LaneSearch
  /** What would do in the search that is going on, if nothing cheaper is found. */
  #fallback: Priced | typeof nothing = nothing

  constructor(index: GpuIndex) {
    this.#index = index
    this.#fittings = new Fittings(index)
    this.#lanes = new LaneSearch(index)
  }

  /** A task has come that wants this: what comes often is what room is kept for. */
  arrived(wanted: Wanted) {
    this.#fittings.arrived(wanted)
  }

  /**
   * The best of what is free and fits. No other is expected to cost less by more than `nearEqualShare`. Among those within it some
   * are drawn at random, so that a new provider gets a first task, and of these the one is chosen that leaves the rest of the
   * market better off. Null: nothing that fits is free.
   */
  choose(wanted: Wanted, at: At): Choice | null {
    if (wanted.requirements.gpu_id !== undefined) return this.#chooseNamed(wanted, at)
    const fitting = this.#fittings.of(wanted, at.nowMs)
    this.#fallback = nothing
    this.#lanes.begin(fitting, wanted.maxPriceMicrosPerHour)
    while (this.#lanes.passedOver < passedOverMax) {
      const { cost, choice: fallback } = this.#fallback
      if (!this.#lanes.find(cost)) return fallback
      const choice = this.#draw({ fitting, wanted, at })
      if (choice) return choice
    }
    return this.#chooseByTrying(fitting, wanted, at)
  }

  /** Of a few the one that is worst for others. Null: what was drawn will not do, and is passed over. */
  #draw(asked: Asked): Choice | null {
    const { fitting, wanted, at } = asked
    const first = at.random()
    // Whoever needs a model gets whoever has it.
    const draws = wanted.modelName === null ? drawsMax : 1
    let best: Slot | Machine | null = null
    let milliEach = 0
    let least = Infinity
    for (let draw = 0; draw <= draws; draw++) {
      // Where chance found nothing, the cheapest.
      if (draw === draws && best !== null) break
      const drawn: Drawn | null =
        draw === draws ? this.#lanes.drawCheapest() : this.#lanes.draw((first + draw / draws) % 1)
      const member = drawn && this.#memberOf(drawn, asked)
      if (!member) continue
      const penalty = this.#penalty(fitting, drawn.entry, member)
      if (penalty >= least) continue
      best = member
      milliEach = fitting.milliEach[drawn.entry]!
      least = penalty
    }
    if (best instanceof Slot) return { gpus: [best.gpu], milliEach }
    return best && cheapestOf(best, wanted, at)!.choice
  }

  #penalty(fitting: Fitting, entry: number, member: Slot | Machine): number {
    const machine = member instanceof Slot ? member.machine : member
    const isPart = member instanceof Slot && fitting.milliEach[entry]! < wholeMilli
    return fitting.penalty(entry, isPart ? member.freeMilli : machine.free, this.#fittings.value)
  }

  /** The member that was drawn, or, if it will not do, the next one of its pool that will. */
  #memberOf({ pool, at: first, entry, factor }: Drawn, { fitting, wanted, at }: Asked): Slot | Machine | null {
    const { seats, step } = pool
    for (let next = 0; next < seats.length; next++) {
      const { member } = seats[(first + next) % seats.length]!
      if (member instanceof Slot) {
        if (isTakable(member, fitting.milliEach[entry]!, { wanted, at })) return member
        continue
      }
      const found = cheapestOf(member, wanted, at)
      if (!found) continue
      if (found.cost < costFrom(step + 1) * (1 + 1e-9)) return member
      // A machine whose cheapest GPUs will not do is dearer than its place says.
      const cost = found.cost * factor
      if (cost < this.#fallback.cost) this.#fallback = { choice: found.choice, cost }
    }
    // Nobody in it will do: they have failed this task, their machines are too small, or who was cheap enough has left.
    this.#lanes.passOver(pool)
    raisePriceFrom(pool, wanted.gpus)
    return null
  }

  /** Looks at everything that fits: for what so few have that pools of equals are no help. */
  #chooseByTrying({ numbers, factors }: Fitting, wanted: Wanted, at: At): Choice | null {
    let best: Priced | null = null
    for (const [entry, number] of numbers.entries())
      for (const slot of this.#index.slotsOf(number)) {
        const found =
          wanted.gpus > 1
            ? cheapestOf(slot.machine, wanted, at)
            : isFree(slot, wanted) && isTakable(slot, milliOn(wanted, slot.gpu), { wanted, at })
              ? take([slot], wanted)
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

  #chooseNamed(wanted: Wanted, at: At): Choice | null {
    const slot = this.#index.slotOf(wanted.requirements.gpu_id!)
    if (!slot || !this.#fittings.of(wanted, at.nowMs).numbers.includes(slot.profile.number)) return null
    if (wanted.gpus > 1) return cheapestOf(slot.machine, wanted, at)?.choice ?? null
    return isFree(slot, wanted) && isTakable(slot, milliOn(wanted, slot.gpu), { wanted, at })
      ? choiceOf([slot], wanted)
      : null
  }
}

function isFree(slot: Slot, wanted: Wanted): boolean {
  return wanted.part === null ? slot.isWhole : slot.isShared && slot.freeMilli >= milliOn(wanted, slot.gpu)
}

function raisePriceFrom(pool: AnyPool, gpus: number) {
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
  return take(slots.slice(0, wanted.gpus), wanted) ?? take(byPrice(), wanted)
}

/** For what is particular to one GPU, but for its price. */
function willDo({ gpu }: Slot, wanted: Wanted, { nowMs }: At): boolean {
  return (wanted.failedGpus.size === 0 || !isPassedOver(wanted, gpu.id, nowMs)) && isLargeEnough(wanted, gpu)
}

function isTakable(slot: Slot, milliEach: number, { wanted, at }: Omit<Asked, 'fitting'>): boolean {
  const { maxPriceMicrosPerHour: max } = wanted
  if (max !== null && (slot.price * milliEach) / wholeMilli > max) return false
  return willDo(slot, wanted, at)
}

function choiceOf(slots: readonly Slot[], wanted: Wanted): Choice {
  return { gpus: slots.map(({ gpu }) => gpu), milliEach: milliOn(wanted, slots[0]!.gpu) }
}

/** All of these, which will do. Null: they cost too much together. */
function take(slots: readonly Slot[], wanted: Wanted): Priced | null {
  const choice = choiceOf(slots, wanted)
  let [price, cost] = [0, 0]
  for (const slot of slots) {
    price += (slot.price * choice.milliEach) / wholeMilli
    cost += slot.cost
  }
  if (wanted.maxPriceMicrosPerHour !== null && price > wanted.maxPriceMicrosPerHour) return null
  return { choice, cost }
}
