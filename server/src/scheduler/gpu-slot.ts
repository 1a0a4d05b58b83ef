import type { MarketGpu } from '../gpus/gpu-registry.ts'
import { longer } from './gpu-lane.ts'
import type { Kind, Profile, ProfileFields } from './gpu-profile.ts'
import type { Holders } from './model-holders.ts'

const none: readonly never[] = []

/** A GPU's places in the index. It lies as it was when it was put there, whatever has become of it since. */
export class Slot {
  readonly number: number
  readonly gpu: MarketGpu
  machine: Machine
  /** Of its cost. */
  step = 0
  /** The lanes in which it is found when enough of it is free. */
  lanes: number[] = []
  /** Its price is not below its owner's minimum. */
  isOffered = false
  isShared = false
  /** Its place among the members of its profile. */
  at = 0
  fields: ProfileFields
  loadedModels: readonly string[] = none
  cachedModels: readonly string[] = none
  /** Of its models. */
  holders: readonly Holders[] = none
  specs: MarketGpu['specs'] = null

  constructor(number: number, gpu: MarketGpu, at: { fields: ProfileFields; machine: Machine }) {
    this.number = number
    this.gpu = gpu
    this.fields = at.fields
    this.machine = at.machine
  }
}

/** The GPUs of one profile on one machine. */
export class Machine {
  readonly number: number
  readonly kind: Kind
  readonly agentId: string | null
  readonly profile: Profile
  /** Their numbers, cheapest first. */
  gpus: number[] = []
  /** Its place, or its last one, among those that have so many whole GPUs. */
  readonly places: number[] = []
  /** What it has free has changed, and its places not yet. */
  isUnsettled = false

  constructor(number: number, of: { kind: Kind; agentId: string | null; profile: Profile }) {
    this.number = number
    this.kind = of.kind
    this.agentId = of.agentId
    this.profile = of.profile
  }
}

/** What is read of hundreds of GPUs for one task, by their numbers: in arrays, so that it lies close together in memory. */
export class GpuTable {
  /** Thousandths that are free, or `undivided`. */
  free = new Uint16Array(64)
  price = new Float64Array(64)
  /** What an hour counts (`hourCost`). */
  cost = new Float64Array(64)
  isThere = new Uint8Array(64)
  machine = new Int32Array(64)
  /** By the machine's number: how many of its GPUs are whole. */
  wholeOnMachine = new Uint16Array(64)
  /** By the machine's number: no whole GPU of it has a lower price. */
  priceOnMachine = new Float64Array(64)

  /** Makes room for one of this number, be it a GPU or a machine. */
  reach(number: number) {
    if (number < this.free.length) return
    this.free = longer(this.free)
    this.price = longer(this.price)
    this.cost = longer(this.cost)
    this.isThere = longer(this.isThere)
    this.machine = longer(this.machine)
    this.wholeOnMachine = longer(this.wholeOnMachine)
    this.priceOnMachine = longer(this.priceOnMachine)
  }
}

/** Things by number. A number that is free again is the next to be given. */
export class Numbered<Thing> {
  readonly #all: Thing[] = []
  readonly #spare: number[] = []

  get(number: number): Thing {
    return this.#all[number]!
  }

  add(make: (number: number) => Thing): Thing {
    const number = this.#spare.pop() ?? this.#all.length
    return (this.#all[number] = make(number))
  }

  release(number: number) {
    this.#spare.push(number)
  }
}
