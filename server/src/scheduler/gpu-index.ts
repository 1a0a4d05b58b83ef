import type { MarketGpu } from '../gpus/gpu-registry.ts'
import { Lanes, type Seat } from './gpu-lane.ts'
import { createProfiles, hasFields, type Profile, type ProfileFields, profileFieldsOf } from './gpu-profile.ts'
import { hourCost, isBelowOwnMinimum } from './matching.ts'
import { wholeMilli } from './packing.ts'

/** What can be had of a GPU now. */
export type Availability = {
  /** Thousandths that are free; 0: none, or it cannot be asked. */
  readonly freeMilli: number
  /** Its owner lets tasks share it. */
  readonly isShared: boolean
}

/** A GPU's places in the index. It lies as it was when it was put there, whatever has become of it since. */
export class Slot {
  readonly gpu: MarketGpu
  fields: ProfileFields
  profile: Profile
  machine: Machine
  models: { readonly loaded: readonly string[]; readonly cached: readonly string[] }
  cost = 0
  price = 0
  freeMilli = 0
  isShared = false
  readonly whole: Seat<Slot> = { member: this, pool: null, at: 0 }
  readonly part: Seat<Slot> = { member: this, pool: null, at: 0 }
  warm: { readonly lanes: Lanes<Slot>; readonly seat: Seat<Slot> }[] = []

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
  /** Its seats with those that have so many whole GPUs; from two on. */
  readonly several: Seat<Machine>[] = []

  constructor(agentId: string | null) {
    this.agentId = agentId
  }

  /** Cheapest first. */
  whole(): Slot[] {
    return this.slots.filter(({ isWhole }) => isWhole)
  }

  /** Of so many of its whole GPUs, at least. */
  priceOf(gpus: number): number {
    const prices = this.whole().map(({ price }) => price)
    return prices
      .sort((a, b) => a - b)
      .slice(0, gpus)
      .reduce((sum, price) => sum + price, 0)
  }

  sort() {
    this.slots.sort((a, b) => a.cost - b.cost)
  }
}

export type WarmLanes = { readonly loaded: Lanes<Slot>; readonly cached: Lanes<Slot> }

/** Parts lie in lanes by how much is free, so that a search need not pass those with too little. */
const partLanes = 4
const partLaneOf = (milli: number) => Math.min(partLanes - 1, Math.floor((milli * partLanes) / wholeMilli))

/** In the lanes of a model: a GPU that is had as a whole or not at all. */
export const undivided = wholeMilli + 1

/**
 * The GPUs of the market, kept so that the best free one for a task is found without looking at all of them (gpu-search.ts).
 *
 * GPUs that fit the same tasks are of one profile: whether a task fits is decided once for all of them. Within a profile those
 * that are free lie in lanes, cheapest first and equals together. A GPU may lie in several: with the whole ones, with those of
 * which parts can be had, and with those that have a certain model at hand; its machine with those that have two, three, … free.
 */
export class GpuIndex {
  readonly #profiles = createProfiles()
  readonly #slots = new Map<string, Slot>()
  readonly #machines = new Map<string, Machine>()
  readonly #warm = new Map<string, WarmLanes>()
  readonly #parts = Array.from({ length: partLanes }, () => new Lanes<Slot>())
  readonly #several: Lanes<Machine>[] = []
  /** By profile number. */
  readonly #byProfile: Set<Slot>[] = []
  /** `free` of its pools: how many of the machine's GPUs are whole. */
  readonly whole = new Lanes<Slot>()
  /** Thousandths that are free, by profile number. */
  readonly freeMilliOf: number[] = []

  get profiles(): readonly Profile[] {
    return this.#profiles.all
  }

  get size(): number {
    return this.#slots.size
  }

  slots(): Iterable<Slot> {
    return this.#slots.values()
  }

  slotOf(gpuId: string): Slot | undefined {
    return this.#slots.get(gpuId)
  }

  /** Free or not. */
  slotsOf(profile: number): ReadonlySet<Slot> {
    return this.#byProfile[profile]!
  }

  /** Where parts of so many thousandths may be. `free` of their pools: thousandths. */
  parts(milli: number): readonly Lanes<Slot>[] {
    return this.#parts.slice(partLaneOf(milli))
  }

  /** `free` of its pools: how many of the machine's GPUs are whole. */
  several(gpus: number): Lanes<Machine> {
    return (this.#several[gpus] ??= new Lanes<Machine>())
  }

  /** `free` of their pools: thousandths, or `undivided`. */
  warm(model: string): WarmLanes {
    const known = this.#warm.get(model) ?? { loaded: new Lanes<Slot>(), cached: new Lanes<Slot>() }
    this.#warm.set(model, known)
    return known
  }

  /** Takes in the GPU as it is now. Cheap where nothing has changed that counts. */
  put(gpu: MarketGpu, { freeMilli, isShared }: Availability) {
    const known = this.#slots.get(gpu.id)
    if (known && known.gpu !== gpu) this.remove(gpu.id)
    const slot = known?.gpu === gpu ? known : this.#create(gpu)
    const isPlaced = hasFields(gpu, slot.fields) && slot.machine.agentId === gpu.agentId
    const hasModels = slot.models.loaded === gpu.loadedModels && slot.models.cached === gpu.cachedModels
    const now = {
      cost: hourCost(gpu),
      price: gpu.priceMicrosPerHour,
      freeMilli: isBelowOwnMinimum(gpu) ? 0 : freeMilli,
      isShared,
    }
    if (isPlaced && hasModels && isAsBefore(slot, now)) return
    this.#leave(slot)
    if (!isPlaced) this.#place(slot)
    if (!hasModels) this.#setModels(slot)
    const isCostAsBefore = slot.cost === now.cost
    Object.assign(slot, now)
    if (!isPlaced || !isCostAsBefore) slot.machine.sort()
    this.#enter(slot)
  }

  remove(gpuId: string) {
    const slot = this.#slots.get(gpuId)
    if (!slot) return
    this.#leave(slot)
    this.#takeOut(slot)
    this.#slots.delete(gpuId)
  }

  #create(gpu: MarketGpu): Slot {
    const fields = profileFieldsOf(gpu)
    const profile = this.#profiles.of(gpu, fields)
    const slot = new Slot(gpu, { fields, profile, machine: this.#machineOf(gpu, profile) })
    this.#slots.set(gpu.id, slot)
    this.#putIn(slot)
    return slot
  }

  /** Anew, as of another profile or on another machine. */
  #place(slot: Slot) {
    this.#takeOut(slot)
    slot.fields = profileFieldsOf(slot.gpu)
    slot.profile = this.#profiles.of(slot.gpu, slot.fields)
    slot.machine = this.#machineOf(slot.gpu, slot.profile)
    this.#putIn(slot)
  }

  #putIn(slot: Slot) {
    const { number } = slot.profile
    slot.machine.slots.push(slot)
    while (this.#byProfile.length <= number) this.#byProfile.push(new Set())
    this.#byProfile[number]!.add(slot)
  }

  #takeOut(slot: Slot) {
    const { machine, gpu, profile } = slot
    machine.slots.splice(machine.slots.indexOf(slot), 1)
    this.#byProfile[profile.number]!.delete(slot)
    if (machine.slots.length === 0) this.#machines.delete(machineKey(machine.agentId ?? gpu.id, profile))
  }

  #machineOf({ agentId, id }: MarketGpu, profile: Profile): Machine {
    const key = machineKey(agentId ?? id, profile)
    const machine = this.#machines.get(key) ?? new Machine(agentId)
    this.#machines.set(key, machine)
    return machine
  }

  #setModels(slot: Slot) {
    const { loadedModels: loaded, cachedModels: cached } = slot.gpu
    slot.models = { loaded, cached }
    const onDisk = cached.filter((model) => !loaded.includes(model))
    const lanes = [...loaded.map((model) => this.warm(model).loaded), ...onDisk.map((model) => this.warm(model).cached)]
    slot.warm = lanes.map((each) => ({ lanes: each, seat: { member: slot, pool: null, at: 0 } }))
  }

  /** Out of all lanes; its machine then has one free GPU less. */
  #leave(slot: Slot) {
    if (slot.freeMilli === 0) return
    const { profile, machine, isWhole, freeMilli } = slot
    this.freeMilliOf[profile.number]! -= freeMilli
    if (slot.isShared) this.#parts[partLaneOf(freeMilli)]!.remove(profile.number, slot.part)
    for (const { lanes, seat } of slot.warm) lanes.remove(profile.number, seat)
    slot.freeMilli = 0
    if (!isWhole) return
    this.whole.remove(profile.number, slot.whole)
    this.#reseat(machine, profile)
  }

  #enter(slot: Slot) {
    const { profile, machine, cost, price, freeMilli, isShared } = slot
    if (freeMilli === 0) return
    while (this.freeMilliOf.length <= profile.number) this.freeMilliOf.push(0)
    this.freeMilliOf[profile.number]! += freeMilli
    const free = isShared ? freeMilli : undivided
    if (isShared) this.#parts[partLaneOf(freeMilli)]!.add(profile.number, slot.part, { cost, price, free })
    if (isShared || slot.isWhole)
      for (const { lanes, seat } of slot.warm) lanes.add(profile.number, seat, { cost, price, free })
    if (slot.isWhole) this.#reseat(machine, profile)
  }

  /** The machine's whole GPUs, and itself, by how many of them there are now. */
  #reseat(machine: Machine, { number }: Profile) {
    const slots = machine.whole()
    for (const { whole, cost, price } of slots) {
      this.whole.remove(number, whole)
      this.whole.add(number, whole, { cost, price, free: slots.length })
    }
    if (machine.slots.length > 1) this.#reseatSeveral(machine, number, slots)
  }

  #reseatSeveral(machine: Machine, number: number, slots: readonly Slot[]) {
    for (let gpus = 2; gpus < machine.several.length; gpus++) this.several(gpus).remove(number, machine.several[gpus]!)
    let cost = slots[0]?.cost ?? 0
    for (let gpus = 2; gpus <= slots.length; gpus++) {
      cost += slots[gpus - 1]!.cost
      const seat = (machine.several[gpus] ??= { member: machine, pool: null, at: 0 })
      this.several(gpus).add(number, seat, { cost, price: machine.priceOf(gpus), free: slots.length })
    }
  }
}

function isAsBefore(slot: Slot, now: Pick<Slot, 'cost' | 'price' | 'freeMilli' | 'isShared'>): boolean {
  const { cost, price, freeMilli, isShared } = now
  return slot.cost === cost && slot.price === price && slot.freeMilli === freeMilli && slot.isShared === isShared
}

const machineKey = (machineId: string, { number }: Profile) => `${machineId} ${number}`
