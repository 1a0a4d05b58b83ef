import { wholeMilli } from '@orbyte/protocol'
import type { MarketGpu } from '../gpus/gpu-registry.ts'
import type { Lanes, Seat } from './gpu-lane.ts'
import type { Profile, ProfileFields } from './gpu-profile.ts'

/** Of those that have a certain model at hand. `holders`: how many GPUs that are, free or busy. */
export type WarmLanes = { readonly loaded: Lanes<Slot>; readonly cached: Lanes<Slot>; holders: number }
type WarmSeat = Seat<Slot> & { readonly lanes: Lanes<Slot>; readonly model: WarmLanes }

/** A GPU's places in the index. It lies as it was when it was put there, whatever has become of it since. */
export class Slot {
  // First what is looked at most, so that it is together in memory.
  freeMilli = 0
  /** Of its cost. */
  step = 0
  price = 0
  isShared = false
  machine: Machine
  profile: Profile
  readonly whole: Seat<Slot> = { member: this, pool: null, at: 0 }
  readonly part: Seat<Slot> = { member: this, pool: null, at: 0 }
  /** Its seats with those that have a certain model. */
  warm: WarmSeat[] = []
  readonly gpu: MarketGpu
  cost = 0
  isThere = false
  /** Its price is not below its owner's minimum. */
  isOffered = false
  fields: ProfileFields
  models: { readonly loaded: readonly string[]; readonly cached: readonly string[] }
  specs: MarketGpu['specs'] = null

  constructor(gpu: MarketGpu, at: { fields: ProfileFields; profile: Profile; machine: Machine }) {
    this.gpu = gpu
    this.fields = at.fields
    this.profile = at.profile
    this.machine = at.machine
    this.models = { loaded: [], cached: [] }
  }

  get isWhole(): boolean {
    return this.freeMilli === wholeMilli
  }
}

/** The GPUs of one profile on one machine. */
export class Machine {
  readonly agentId: string | null
  /** Cheapest first. */
  readonly slots: Slot[] = []
  /** How many of them are whole. */
  free = 0
  /** Its seats with those that have so many whole GPUs; from two on. */
  readonly several: Seat<Machine>[] = []

  constructor(agentId: string | null) {
    this.agentId = agentId
  }

  /** Cheapest first. */
  whole(): Slot[] {
    return this.slots.filter(({ isWhole }) => isWhole)
  }

  /** Of its whole GPUs, lowest first. */
  prices(): number[] {
    const prices: number[] = []
    for (const slot of this.slots) if (slot.isWhole) prices.push(slot.price)
    return prices.sort((a, b) => a - b)
  }

  /** Of so many of its whole GPUs, at least. */
  priceOf(gpus: number): number {
    return this.prices()
      .slice(0, gpus)
      .reduce((sum, price) => sum + price, 0)
  }

  sort() {
    this.slots.sort((a, b) => a.cost - b.cost)
  }
}
