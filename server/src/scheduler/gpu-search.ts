import { priceOfShare, priceTogether, wholeMilli } from '@orbyte/protocol'
import type { MarketGpu } from '../gpus/gpu-registry.ts'
import { milliOn, priceOn } from './expected-cost.ts'
import { type FittingProfile, Fittings } from './fitting.ts'
import type { GpuIndex } from './gpu-index.ts'
import type { Profile } from './gpu-profile.ts'
import { LaneSearch } from './lane-search.ts'
import { type Asked, cheapestOn, willDo } from './machine-choice.ts'
import { judgeFit, type Wanted } from './matching.ts'
import { isLargeEnough } from './rankers.ts'
import type { DrawnRoom } from './room-penalty.ts'

/** What a task gets: one GPU or part of it, or several GPUs of one machine. */
export type Choice = { readonly gpus: readonly MarketGpu[]; readonly milliEach: number }
export type At = {
  readonly nowMs: number
  /** From 0 to below 1. */
  random(): number
}

/** So many that are near-equal, drawn at random, are compared for what they leave of their machines. */
const drawsMax = 3

/** Finds the best free GPUs for a task: see `choose`. */
export class GpuSearch {
  readonly #index: GpuIndex
  readonly #fittings: Fittings
  readonly #lanes: LaneSearch

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
    const asked: Asked = { wanted, nowMs: at.nowMs }
    if (!this.#lanes.find(fitting, asked)) return null
    const first = at.random()
    // Whoever needs a model gets whoever has it.
    const draws = wanted.modelName === null ? drawsMax : 1
    let best = -1
    let owner: FittingProfile | null = null
    let least = Infinity
    for (let draw = 0; draw <= draws; draw++) {
      // Where chance found nothing, the cheapest.
      if (draw === draws && best >= 0) break
      const member = draw === draws ? this.#lanes.drawCheapest() : this.#lanes.draw((first + draw / draws) % 1)
      if (member < 0) continue
      const drawn = fitting.owners[this.#lanes.lane]!
      const taking = { gpus: wanted.gpus, milliEach: drawn.milliEach }
      const penalty = this.#fittings.penalties.of(taking, this.#roomOf(member, drawn, wanted))
      if (penalty >= least) continue
      best = member
      owner = drawn
      least = penalty
    }
    const gpus = wanted.gpus > 1 ? cheapestOn(best, this.#index, asked)! : [best]
    return this.#choiceOf(gpus, owner!.milliEach)
  }

  #roomOf(member: number, { profile, milliEach }: FittingProfile, { gpus }: Wanted): DrawnRoom {
    const { free, machine, wholeOnMachine, isShared } = this.#index.table
    if (gpus > 1)
      return { profile, free: wholeOnMachine[member]!, isShared: this.#index.machine(member).isShared ? 1 : 0 }
    const isPart = milliEach < wholeMilli
    return { profile, free: isPart ? free[member]! : wholeOnMachine[machine[member]!]!, isShared: isShared[member]! }
  }

  #choiceOf(gpus: readonly number[], milliEach: number): Choice {
    return { gpus: gpus.map((gpu) => this.#index.gpu(gpu)), milliEach }
  }

  /** The highest price of what fits, free or busy: of a GPU, of a share, of several of a machine. Null: nothing fits. */
  dearestFitting(wanted: Wanted, nowMs: number): number | null {
    const { gpu_id } = wanted.requirements
    if (gpu_id !== undefined) {
      const gpu = this.#index.get(gpu_id)
      return gpu && judgeFit(wanted, gpu, nowMs).rejection === null ? priceOn(wanted, gpu) : null
    }
    const { profiles, machineSize } = this.#fittings.of(wanted, nowMs)
    let dearest: number | null = null
    for (const one of profiles) {
      const found =
        wanted.gpus > 1
          ? this.#dearestTogether(one, wanted)
          : this.#dearestAlone(one, { wanted, nowMs, isAnyMachine: machineSize === null })
      if (found !== null && (dearest === null || found > dearest)) dearest = found
    }
    return dearest
  }

  #dearestAlone(
    one: FittingProfile,
    { wanted, nowMs, isAnyMachine }: Asked & { isAnyMachine: boolean },
  ): number | null {
    const most = (wanted.maxPriceMicrosPerHour ?? Infinity) * wholeMilli
    const found = isAnyMachine
      ? one.profile.dearestFor(wanted, most / one.milliEach)
      : this.#dearestOnMachine(one, wanted, nowMs)
    return found === null ? null : priceOfShare(found, one.milliEach)
  }

  /** Of so many neighbours in price, on any machine, that are not too dear together. */
  #dearestTogether({ profile }: FittingProfile, wanted: Wanted): number | null {
    const most = wanted.maxPriceMicrosPerHour ?? Infinity
    let dearest: number | null = null
    for (const machine of this.#machinesOf(profile)) {
      const prices = this.#pricesOn(machine, wanted, () => true)
      for (let first = 0; first + wanted.gpus <= prices.length; first++) {
        const price = priceTogether(prices.slice(first, first + wanted.gpus))
        if (price <= most && (dearest === null || price > dearest)) dearest = price
      }
    }
    return dearest
  }

  #machinesOf({ members }: Profile): Set<number> {
    return new Set(members.map((number) => this.#index.table.machine[number]!))
  }

  /** Of those that are there and large enough, free or busy: lowest first. */
  #pricesOn(machine: number, wanted: Wanted, isMeant: (gpu: MarketGpu) => boolean): number[] {
    const { isThere, price } = this.#index.table
    const prices: number[] = []
    for (const number of this.#index.machine(machine).gpus) {
      const gpu = this.#index.gpu(number)
      if (isThere[number] === 1 && isLargeEnough(wanted, gpu) && isMeant(gpu)) prices.push(price[number]!)
    }
    return prices.sort((a, b) => a - b)
  }

  #dearestOnMachine({ profile }: FittingProfile, wanted: Wanted, nowMs: number): number | null {
    let dearest: number | null = null
    for (const number of profile.members) {
      const gpu = this.#index.gpu(number)
      if (gpu.priceMicrosPerHour > (dearest ?? -1) && judgeFit(wanted, gpu, nowMs).rejection === null)
        dearest = gpu.priceMicrosPerHour
    }
    return dearest
  }

  /** Whether the task fits elsewhere, on what is free or busy, than where it has failed. */
  fitsAnother(wanted: Wanted, nowMs: number): boolean {
    const hasNotFailed = ({ id }: MarketGpu) => !wanted.failedGpus.has(id)
    const most = wanted.maxPriceMicrosPerHour ?? Infinity
    for (const { profile } of this.#fittings.of(wanted, nowMs).profiles) {
      if (profile.pricesFor(wanted).length === 0) continue
      if (wanted.gpus > 1) {
        for (const machine of this.#machinesOf(profile)) {
          const cheapest = this.#pricesOn(machine, wanted, hasNotFailed).slice(0, wanted.gpus)
          if (cheapest.length === wanted.gpus && priceTogether(cheapest) <= most) return true
        }
      } else
        for (const number of profile.members) {
          const gpu = this.#index.gpu(number)
          if (hasNotFailed(gpu) && judgeFit(wanted, gpu, nowMs).rejection === null) return true
        }
    }
    return false
  }

  #chooseNamed(wanted: Wanted, { nowMs }: At): Choice | null {
    const gpu = this.#index.get(wanted.requirements.gpu_id!)
    if (!gpu) return null
    const { number } = gpu
    const machine = this.#index.machineOf(number)
    const fits = this.#fittings.of(wanted, nowMs).profiles.some(({ profile }) => profile === machine.profile)
    if (!fits) return null
    const milliEach = milliOn(wanted, gpu)
    const { free, price } = this.#index.table
    const isFree = wanted.part === null ? this.#index.isWhole(number) : machine.isShared && free[number]! >= milliEach
    const max = wanted.maxPriceMicrosPerHour ?? Infinity
    if (!isFree || (price[number]! * milliEach) / wholeMilli > max) return null
    return willDo(gpu, { wanted, nowMs }) ? this.#choiceOf([number], milliEach) : null
  }
}
