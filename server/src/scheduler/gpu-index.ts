import type { MarketGpu } from '../gpus/gpu-registry.ts'
import { Lanes, type Seat, stepOf } from './gpu-lane.ts'
import { createProfiles, hasFields, type Profile, type ProfileFields, profileFieldsOf } from './gpu-profile.ts'
import { hourCost } from './expected-cost.ts'
import { isBelowOwnMinimum } from './rankers.ts'
import { wholeMilli } from './packing.ts'

/** What can be had of a GPU now. */
export type Availability = {
  /** It takes tasks, though it may be busy now. */
  readonly isThere: boolean
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
  specs: MarketGpu['specs'] = null
  cost = 0
  /** Of its cost. */
  step = 0
  price = 0
  isThere = false
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

export type MachineSize = { cores: number; ramGb: number; storageGb: number }
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
  /** What no machine of the profile has had more of; by profile number. */
  readonly #largest: MachineSize[] = []
  /** Prices of those that are there, lowest first; by profile number. */
  readonly #prices: number[][] = []

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

  *gpusOf(profile: number): Generator<MarketGpu> {
    for (const { gpu } of this.#byProfile[profile]!) yield gpu
  }

  /** Of those that are there: the highest price that is not above `most`. Null: there is none. */
  dearestUpTo(most: number, profile: number): number | null {
    const prices = this.#prices[profile]!
    return prices[placeAfter(prices, most) - 1] ?? null
  }

  /** False: no machine of the profile is as large. */
  mayBeAsLarge(profile: number, { cores, ramGb, storageGb }: MachineSize): boolean {
    const largest = this.#largest[profile]!
    return largest.cores >= cores && largest.ramGb >= ramGb && largest.storageGb >= storageGb
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
  put(gpu: MarketGpu, { isThere, freeMilli, isShared }: Availability) {
    const known = this.#slots.get(gpu.id)
    if (known && known.gpu !== gpu) this.remove(gpu.id)
    const slot = known?.gpu === gpu ? known : this.#create(gpu)
    const isPlaced = hasFields(gpu, slot.fields) && slot.machine.agentId === gpu.agentId
    const hasModels = slot.models.loaded === gpu.loadedModels && slot.models.cached === gpu.cachedModels
    const isOffered = !isBelowOwnMinimum(gpu)
    const now = {
      cost: hourCost(gpu),
      price: gpu.priceMicrosPerHour,
      isThere: isOffered && isThere,
      freeMilli: isOffered ? freeMilli : 0,
      isShared,
    }
    if (slot.specs !== gpu.specs) this.#noteSpecs(slot)
    if (isPlaced && hasModels && isAsBefore(slot, now)) return
    const isListed = isPlaced && slot.price === now.price && slot.isThere === now.isThere
    const isSorted = isPlaced && slot.cost === now.cost
    this.#leave(slot)
    if (!isListed) this.#unlist(slot)
    if (!isPlaced) this.#place(slot)
    if (!hasModels) this.#setModels(slot)
    Object.assign(slot, now)
    if (!isSorted) {
      slot.step = stepOf(slot.cost)
      slot.machine.sort()
    }
    if (!isPlaced) this.#noteSpecs(slot)
    if (!isListed) this.#list(slot)
    this.#enter(slot)
  }

  remove(gpuId: string) {
    const slot = this.#slots.get(gpuId)
    if (!slot) return
    this.#leave(slot)
    this.#unlist(slot)
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
    while (this.#byProfile.length <= number) {
      this.#byProfile.push(new Set())
      this.#prices.push([])
      this.#largest.push({ cores: 0, ramGb: 0, storageGb: 0 })
      this.freeMilliOf.push(0)
    }
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

  #noteSpecs(slot: Slot) {
    slot.specs = slot.gpu.specs
    const largest = this.#largest[slot.profile.number]!
    largest.cores = Math.max(largest.cores, slot.specs?.cpu_cores ?? 0)
    largest.ramGb = Math.max(largest.ramGb, slot.specs?.ram_gb ?? 0)
    largest.storageGb = Math.max(largest.storageGb, slot.specs?.storage_gb ?? 0)
  }

  #list({ isThere, price, profile }: Slot) {
    const prices = this.#prices[profile.number]!
    if (isThere) prices.splice(placeAfter(prices, price), 0, price)
  }

  #unlist({ isThere, price, profile }: Slot) {
    const prices = this.#prices[profile.number]!
    if (isThere) prices.splice(placeAfter(prices, price) - 1, 1)
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
    const { profile, machine, step, price, freeMilli, isShared } = slot
    if (freeMilli === 0) return
    this.freeMilliOf[profile.number]! += freeMilli
    const place = { step, price, free: isShared ? freeMilli : undivided }
    if (isShared) this.#parts[partLaneOf(freeMilli)]!.add(profile.number, slot.part, place)
    if (isShared || slot.isWhole) for (const { lanes, seat } of slot.warm) lanes.add(profile.number, seat, place)
    if (slot.isWhole) this.#reseat(machine, profile)
  }

  /** The machine's whole GPUs, and itself, by how many of them there are now. */
  #reseat(machine: Machine, { number }: Profile) {
    const slots = machine.whole()
    const free = slots.length
    for (const { whole, step, price } of slots) {
      this.whole.remove(number, whole)
      this.whole.add(number, whole, { step, price, free })
    }
    if (machine.slots.length > 1) this.#reseatSeveral(machine, number, slots)
  }

  #reseatSeveral(machine: Machine, number: number, slots: readonly Slot[]) {
    for (let gpus = 2; gpus < machine.several.length; gpus++) this.several(gpus).remove(number, machine.several[gpus]!)
    let cost = slots[0]?.cost ?? 0
    for (let gpus = 2; gpus <= slots.length; gpus++) {
      cost += slots[gpus - 1]!.cost
      const seat = (machine.several[gpus] ??= { member: machine, pool: null, at: 0 })
      this.several(gpus).add(number, seat, { step: stepOf(cost), price: machine.priceOf(gpus), free: slots.length })
    }
  }
}

type Standing = Pick<Slot, 'cost' | 'price' | 'isThere' | 'freeMilli' | 'isShared'>

function isAsBefore(slot: Slot, { cost, price, isThere, freeMilli, isShared }: Standing): boolean {
  if (slot.cost !== cost || slot.price !== price || slot.isThere !== isThere) return false
  return slot.freeMilli === freeMilli && slot.isShared === isShared
}

/** Behind all numbers that are not larger. */
function placeAfter(sorted: readonly number[], value: number): number {
  let low = 0
  for (let high = sorted.length; low < high;) {
    const middle = (low + high) >> 1
    if (sorted[middle]! <= value) low = middle + 1
    else high = middle
  }
  return low
}

const machineKey = (machineId: string, { number }: Profile) => `${machineId} ${number}`
