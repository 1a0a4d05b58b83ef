import type { MarketGpu } from '../gpus/gpu-registry.ts'
import { longer } from '../gpus/numbered.ts'
import type { Kind, Profile, ProfileFields } from './gpu-profile.ts'
import type { Holders } from './model-holders.ts'

const none: readonly never[] = []

/** A GPU's places in the index. It lies as it was when it was put there, whatever has become of it since. */
export class Slot {
  readonly gpu: MarketGpu
  machine: Machine
  /** Its place among the members of its profile. */
  at = 0
  fields: ProfileFields
  loadedModels: readonly string[] = none
  cachedModels: readonly string[] = none
  /** Of its models. */
  holders: readonly Holders[] = none
  specs: MarketGpu['specs'] = null

  constructor(gpu: MarketGpu, at: { fields: ProfileFields; machine: Machine }) {
    this.gpu = gpu
    this.fields = at.fields
    this.machine = at.machine
  }
}

/** The GPUs of one profile on one machine, all of which may be shared or none. */
export class Machine {
  readonly number: number
  readonly kind: Kind
  readonly key: string
  readonly isShared: boolean
  readonly profile: Profile
  /** Their numbers, cheapest first. */
  gpus: number[] = []
  /** Its place, or its last one, among those that have so many whole GPUs. */
  readonly places: number[] = []

  constructor(number: number, of: { kind: Kind; key: string; isShared: boolean; profile: Profile }) {
    this.number = number
    this.kind = of.kind
    this.key = of.key
    this.isShared = of.isShared
    this.profile = of.profile
  }
}

/** What its machine is known by among those of its kind. */
export const machineKeyOf = ({ agentId, id, sharing }: MarketGpu): string =>
  `${agentId ?? id}${sharing ? ' shared' : ''}`

/** What is read of hundreds of GPUs for one task, by their numbers: in arrays, so that it lies close together in memory. */
export class GpuTable {
  /** Thousandths that are free; of one that may not be shared all or nothing. */
  free = new Uint16Array(64)
  price = new Float64Array(64)
  /** What an hour counts (`hourCost`). */
  cost = new Float64Array(64)
  isThere = new Uint8Array(64)
  isShared = new Uint8Array(64)
  /** Its price is not below its owner's minimum. */
  isOffered = new Uint8Array(64)
  machine = new Int32Array(64)
  /** Its place in all of its lanes (`placeOf`). */
  place = new Float64Array(64)
  /**
   * Which of its lanes may have to be told when it has more free, because it was dropped there, or its price does not count there: a
   * bit for each lane, by the last five of its number. Where two share one, it may be either.
   */
  missing = new Int32Array(64)
  /** By the machine's number: how many of its GPUs are whole. */
  wholeOnMachine = new Uint16Array(64)
  /** By the machine's number: how many GPUs it has. */
  gpusOnMachine = new Uint16Array(64)
  /** By the machine's number: it may have to be elsewhere among those that have several. */
  isUnsettled = new Uint8Array(64)
  /** By the machine's number: no whole GPU of it has a lower price. Lower than any has, once the cheapest is taken. */
  priceOnMachine = new Float64Array(64)

  /** Makes room for one of this number, be it a GPU or a machine. */
  reach(number: number) {
    while (number >= this.free.length) this.#lengthen()
  }

  #lengthen() {
    this.free = longer(this.free)
    this.price = longer(this.price)
    this.cost = longer(this.cost)
    this.isThere = longer(this.isThere)
    this.isShared = longer(this.isShared)
    this.isOffered = longer(this.isOffered)
    this.machine = longer(this.machine)
    this.place = longer(this.place)
    this.missing = longer(this.missing)
    this.gpusOnMachine = longer(this.gpusOnMachine)
    this.isUnsettled = longer(this.isUnsettled)
    this.wholeOnMachine = longer(this.wholeOnMachine)
    this.priceOnMachine = longer(this.priceOnMachine)
  }
}
