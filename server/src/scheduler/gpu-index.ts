import type { MarketGpu } from '../gpus/gpu-registry.ts'
import { Lanes, stepOf } from './gpu-lane.ts'
import { createProfiles, hasFields, type Profile, profileFieldsOf } from './gpu-profile.ts'
import { Machine, Slot, type WarmLanes } from './gpu-slot.ts'
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

export type MachineSize = { cores: number; ramGb: number; storageGb: number }

/** Parts lie in lanes by how much is free, so that a search need not pass those with too little. */
const partLanes = 4
const partLaneOf = (milli: number) => Math.min(partLanes - 1, Math.floor((milli * partLanes) / wholeMilli))

/** So many profiles may be without a GPU. */
const emptiedMax = 100
/** So many models are known, or twice as many as GPUs have. */
const modelsMax = 1_000

/** What a GPU has free that is had as a whole or not at all. */
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
  readonly whole = new Lanes<Slot>()
  /** Thousandths that are free, by profile number. */
  readonly freeMilliOf: number[] = []
  /** What no machine of the profile has had more of; by profile number. */
  readonly #largest: MachineSize[] = []
  /** Prices of those that are there, lowest first; by profile number. */
  readonly #prices: number[][] = []
  /** How often the last GPU of a profile has left it, since those without any were forgotten. */
  #emptied = 0
  #modelsMax = modelsMax
  /** Another once numbers of profiles, or the lanes of models, are others than before. */
  numbering = 0

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

  several(gpus: number): Lanes<Machine> {
    return (this.#several[gpus] ??= new Lanes<Machine>())
  }

  /** `free` of their pools: thousandths, or `undivided`. */
  warm(model: string): WarmLanes {
    const known = this.#warm.get(model)
    if (known) return known
    if (this.#warm.size >= this.#modelsMax) this.#forgetModels()
    const lanes = { loaded: new Lanes<Slot>(), cached: new Lanes<Slot>(), holders: 0 }
    this.#warm.set(model, lanes)
    return lanes
  }

  /** Whoever asks may name any model: those that no GPU has are forgotten from time to time. */
  #forgetModels() {
    for (const [model, { holders }] of this.#warm) if (holders === 0) this.#warm.delete(model)
    this.#modelsMax = Math.max(modelsMax, 2 * this.#warm.size)
    this.numbering++
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
      isOffered,
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

  /** Like `put` where nothing else has changed. Does nothing if it is not in. */
  setFree(gpuId: string, freeMilli: number) {
    const slot = this.#slots.get(gpuId)
    const free = slot?.isOffered ? freeMilli : 0
    if (!slot || slot.freeMilli === free) return
    this.#leave(slot)
    slot.freeMilli = free
    this.#enter(slot)
  }

  remove(gpuId: string) {
    const slot = this.#slots.get(gpuId)
    if (!slot) return
    this.#leave(slot)
    this.#unlist(slot)
    this.#takeOut(slot)
    for (const { model } of slot.warm) model.holders--
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
    if (this.#byProfile[number]?.size === 0) this.#largest[number] = { cores: 0, ramGb: 0, storageGb: 0 }
    while (this.#byProfile.length <= number) {
      this.#byProfile.push(new Set())
      this.#prices.push([])
      this.#largest.push({ cores: 0, ramGb: 0, storageGb: 0 })
      this.freeMilliOf.push(0)
    }
    this.#byProfile[number]!.add(slot)
    if (this.#emptied > emptiedMax && this.#emptied > this.profiles.length / 2) this.#forgetProfiles()
  }

  /** Owners change what their machines have and allow: else there would be more and more profiles to look through. */
  #forgetProfiles() {
    this.#profiles.retain((number) => this.#byProfile[number]!.size > 0)
    this.#emptied = 0
    this.numbering++
  }

  #takeOut(slot: Slot) {
    const { machine, gpu, profile } = slot
    machine.slots.splice(machine.slots.indexOf(slot), 1)
    const alike = this.#byProfile[profile.number]!
    alike.delete(slot)
    if (alike.size === 0) this.#emptied++
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
    for (const { model } of slot.warm) model.holders--
    const seat = (name: string, warmth: 'loaded' | 'cached') => {
      const model = this.warm(name)
      model.holders++
      return { member: slot, pool: null, at: 0, lanes: model[warmth], model }
    }
    slot.warm = [...loaded.map((name) => seat(name, 'loaded')), ...onDisk.map((name) => seat(name, 'cached'))]
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
    for (const seat of slot.warm) seat.lanes.remove(profile.number, seat)
    slot.freeMilli = 0
    if (!isWhole) return
    this.whole.remove(profile.number, slot.whole)
    machine.free--
    this.#seatMachine(machine, profile)
  }

  #enter(slot: Slot) {
    const { profile, machine, step, price, freeMilli, isShared } = slot
    if (freeMilli === 0) return
    this.freeMilliOf[profile.number]! += freeMilli
    const place = { step, price, free: isShared ? freeMilli : undivided }
    if (isShared) this.#parts[partLaneOf(freeMilli)]!.add(profile.number, slot.part, place)
    if (isShared || slot.isWhole) for (const seat of slot.warm) seat.lanes.add(profile.number, seat, place)
    if (!slot.isWhole) return
    this.whole.add(profile.number, slot.whole, { step, price, free: undivided })
    machine.free++
    this.#seatMachine(machine, profile)
  }

  /** With those that have as many whole GPUs as it has now, for each number from two on. */
  #seatMachine(machine: Machine, { number }: Profile) {
    if (machine.slots.length === 1) return
    const prices = machine.prices()
    let [gpus, cost, price] = [0, 0, 0]
    for (const slot of machine.slots) {
      if (!slot.isWhole) continue
      cost += slot.cost
      price += prices[gpus++]!
      if (gpus === 1) continue
      const seat = (machine.several[gpus] ??= { member: machine, pool: null, at: 0 })
      this.several(gpus).put(number, seat, { step: stepOf(cost), price, free: undivided })
    }
    for (gpus = Math.max(2, gpus + 1); gpus < machine.several.length; gpus++)
      this.several(gpus).remove(number, machine.several[gpus]!)
  }
}

type Standing = Pick<Slot, 'cost' | 'price' | 'isOffered' | 'isThere' | 'freeMilli' | 'isShared'>

function isAsBefore(slot: Slot, { cost, price, isOffered, isThere, freeMilli, isShared }: Standing): boolean {
  if (slot.cost !== cost || slot.price !== price || slot.isOffered !== isOffered || slot.isThere !== isThere)
    return false
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
