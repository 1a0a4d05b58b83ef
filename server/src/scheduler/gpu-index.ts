import { wholeMilli } from '@orbyte/protocol'
import type { MarketGpu } from '../gpus/gpu-registry.ts'
import { hourCost } from './expected-cost.ts'
import { Lanes, placeOf, stepOf } from './gpu-lane.ts'
import {
  createProfiles,
  hasFields,
  type Kind,
  type Profile,
  type ProfileFields,
  profileFieldsOf,
} from './gpu-profile.ts'
import { GpuTable, Machine, Numbered, Slot } from './gpu-slot.ts'
import { createModels, type Holders } from './model-holders.ts'
import { isBelowOwnMinimum } from './rankers.ts'

/** What can be had of a GPU now. */
export type Availability = {
  /** It takes tasks, though it may be busy now. */
  readonly isThere: boolean
  /** Thousandths that are free; 0: none, or it cannot be asked. */
  readonly freeMilli: number
  /** Its owner lets tasks share it. */
  readonly isShared: boolean
}

/** So many profiles may be without a GPU. */
const emptiedMax = 100

/** What a GPU has free that is had as a whole or not at all. */
export const undivided = wholeMilli + 1

/**
 * The GPUs of the market, kept so that the best free one for a task is found without looking at all of them (gpu-search.ts).
 *
 * GPUs that fit the same tasks are of one profile: whether a task fits is decided once for all of them. In a lane they lie by what
 * they cost, cheapest first. A GPU lies in several: with the whole ones, with those of which parts can be had, and with those
 * that have a certain model at hand; its machine with those that have two, three, … free.
 *
 * What is free always lies where it belongs. What is not may lie there still: whoever searches sees in the table that it is not,
 * and drops it.
 */
export class GpuIndex {
  readonly lanes = new Lanes()
  readonly table = new GpuTable()
  readonly #profiles = createProfiles(this.lanes)
  readonly #models = createModels(this.lanes)
  readonly #byId = new Map<string, Slot>()
  readonly #slots = new Numbered<Slot>()
  readonly #machines = new Numbered<Machine>()
  /** How many GPUs of one machine tasks have asked for, lowest first. */
  readonly #severals: number[] = []
  /** Machines that may have to be elsewhere among those that have several. */
  readonly #unsettled: Machine[] = []
  /** How often the last GPU of a profile has left it, since those without any were forgotten. */
  #emptied = 0
  /** Another once a lane is for other GPUs than before. */
  numbering = 0

  get profiles(): readonly Profile[] {
    return this.#profiles.all
  }

  get size(): number {
    return this.#byId.size
  }

  slotOf(gpuId: string): Slot | undefined {
    return this.#byId.get(gpuId)
  }

  slot(number: number): Slot {
    return this.#slots.get(number)
  }

  machine(number: number): Machine {
    return this.#machines.get(number)
  }

  freeMilli({ number }: Slot): number {
    return Math.min(wholeMilli, this.table.free[number]!)
  }

  /** Thousandths of all GPUs of the profile together. */
  freeIn({ members }: Profile): number {
    return members.reduce((sum, number) => sum + Math.min(wholeMilli, this.table.free[number]!), 0)
  }

  isWhole(number: number): boolean {
    return this.table.free[number]! >= wholeMilli
  }

  holdersOf(model: string): Holders {
    return this.#models.of(model, () => this.numbering++)
  }

  /** From here on machines that have so many whole GPUs are found. */
  seatMachines(gpus: number) {
    if (this.#severals.includes(gpus)) return
    this.#severals.push(gpus)
    this.#severals.sort((a, b) => a - b)
    for (const { machines } of this.#profiles.kinds()) for (const machine of machines.values()) this.#seat(machine)
  }

  /** Takes in the GPU as it is now. Cheap where nothing has changed that counts. */
  put(gpu: MarketGpu, { isThere, freeMilli, isShared }: Availability) {
    if (this.#byId.get(gpu.id)?.gpu !== gpu) this.remove(gpu.id)
    const slot = this.#byId.get(gpu.id) ?? this.#create(gpu)
    const { table } = this
    const { number } = slot
    slot.isOffered = !isBelowOwnMinimum(gpu)
    const isListed = slot.isOffered && isThere
    const cost = hourCost(gpu)
    const price = gpu.priceMicrosPerHour
    const isPlaced = hasFields(gpu, slot.fields) && slot.machine.agentId === gpu.agentId
    const hasModels = slot.loadedModels === gpu.loadedModels && slot.cachedModels === gpu.cachedModels
    const isPriced = table.cost[number] === cost && table.price[number] === price
    if (!isPlaced || !hasModels || !isPriced || slot.isShared !== isShared) {
      this.#unseat(slot)
      if (!isPlaced) this.#place(slot)
      if (!hasModels) this.#setModels(slot)
      table.cost[number] = cost
      table.price[number] = price
      slot.isShared = isShared
      slot.step = stepOf(cost)
      slot.lanes = this.#lanesOf(slot)
      slot.machine.gpus.sort((a, b) => table.cost[a]! - table.cost[b]!)
    }
    if (slot.specs !== gpu.specs || !isPlaced) noteSpecs(slot)
    this.#setThere(slot, isListed)
    this.#setFree(slot, freeMilli)
  }

  /** Like `put` where nothing else has changed. Does nothing if it is not in. */
  setFree(gpuId: string, freeMilli: number) {
    const slot = this.#byId.get(gpuId)
    if (slot) this.#setFree(slot, freeMilli)
  }

  remove(gpuId: string) {
    const slot = this.#byId.get(gpuId)
    if (!slot) return
    this.#unseat(slot)
    this.#takeOut(slot)
    for (const holders of slot.holders) holders.gpus--
    this.#byId.delete(gpuId)
    this.#slots.release(slot.number)
  }

  #create(gpu: MarketGpu): Slot {
    const slot = this.#slots.add((number) => new Slot(number, gpu, this.#placeFor(gpu)))
    this.#byId.set(gpu.id, slot)
    this.#putIn(slot)
    // Not yet known: it has no place in a lane.
    this.table.cost[slot.number] = -1
    return slot
  }

  /** Anew, as of another profile or on another machine. */
  #place(slot: Slot) {
    this.#takeOut(slot)
    Object.assign(slot, this.#placeFor(slot.gpu))
    this.#putIn(slot)
  }

  #placeFor(gpu: MarketGpu): { fields: ProfileFields; machine: Machine } {
    const fields = profileFieldsOf(gpu)
    const kind = this.#profiles.kindOf(fields)
    // Most are the same objects: a copy for each GPU would be as large as all else that is kept of it here.
    return { fields: hasFields(gpu, kind.fields) ? kind.fields : fields, machine: this.#machineFor(gpu, kind) }
  }

  #machineFor(gpu: MarketGpu, kind: Kind): Machine {
    const { agentId, id } = gpu
    const known = kind.machines.get(agentId ?? id)
    if (known) return known
    const profile = this.#profiles.withRoom(kind, gpu)
    const machine = this.#machines.add((number) => new Machine(number, { kind, agentId, profile }))
    kind.machines.set(agentId ?? id, machine)
    return machine
  }

  #putIn(slot: Slot) {
    const { number, machine } = slot
    const { profile } = machine
    this.table.reach(Math.max(number, machine.number))
    this.table.machine[number] = machine.number
    machine.gpus = machine.gpus.concat(number)
    if (profile.members.length === 0) profile.largest = { cores: 0, ramGb: 0, storageGb: 0 }
    slot.at = profile.members.push(number) - 1
    if (this.#emptied > emptiedMax && this.#emptied > this.profiles.length / 2) this.#forgetProfiles()
  }

  /** Owners change what their machines have and allow: else there would be more and more profiles to look through. */
  #forgetProfiles() {
    this.#models.retain(({ members }) => members.length > 0)
    this.#profiles.forgetEmpty()
    this.#emptied = 0
    this.numbering++
  }

  #takeOut({ number, machine, at, gpu: { id } }: Slot) {
    const { profile, places } = machine
    machine.gpus = machine.gpus.filter((gpu) => gpu !== number)
    const last = profile.members.pop()!
    if (last !== number) {
      profile.members[at] = last
      this.slot(last).at = at
    }
    if (profile.members.length === 0) this.#emptied++
    if (machine.gpus.length > 0) return
    for (const several of this.#severals) this.lanes.remove(profile.several(several), places[several] ?? -1)
    machine.kind.machines.delete(machine.agentId ?? id)
    this.#machines.release(machine.number)
  }

  #setModels(slot: Slot) {
    const { loadedModels: loaded, cachedModels: cached } = slot.gpu
    for (const holders of slot.holders) holders.gpus--
    slot.loadedModels = loaded
    slot.cachedModels = cached
    slot.holders = [...new Set([...loaded, ...cached])].map((name) => {
      const holders = this.holdersOf(name)
      holders.gpus++
      return holders
    })
  }

  /** All in which it is found when enough of it is free. */
  #lanesOf({ machine: { profile }, isShared, loadedModels: loaded, cachedModels: cached }: Slot): number[] {
    const warm = (name: string) => this.holdersOf(name).laneOf(profile, loaded.includes(name) ? 'loaded' : 'cached')
    return [profile.whole, ...(isShared ? profile.parts : []), ...[...new Set([...loaded, ...cached])].map(warm)]
  }

  /** Out of all that others would find it by. */
  #unseat(slot: Slot) {
    this.#setThere(slot, false)
    this.#become(slot, 0)
    for (const lane of slot.lanes) this.lanes.remove(lane, placeOf(slot.step, slot.number))
    slot.lanes = []
  }

  #setThere({ number, machine: { profile } }: Slot, isThere: boolean) {
    const { isThere: column, price } = this.table
    if ((column[number] === 1) === isThere) return
    column[number] = isThere ? 1 : 0
    if (isThere) profile.list(price[number]!)
    else profile.unlist(price[number]!)
  }

  #setFree(slot: Slot, freeMilli: number) {
    const whole = freeMilli === wholeMilli ? undivided : 0
    this.#become(slot, !slot.isOffered ? 0 : slot.isShared ? freeMilli : whole)
  }

  #become({ number, step, lanes, machine }: Slot, free: number) {
    const { free: column, price, wholeOnMachine } = this.table
    const before = column[number]!
    if (free === before) return
    column[number] = free
    if (free > before) {
      const { levels } = this.lanes
      for (const lane of lanes)
        if (levels[lane]! > before && levels[lane]! <= free) this.lanes.add(lane, placeOf(step, number), price[number]!)
    }
    if (free >= wholeMilli === before >= wholeMilli) return
    wholeOnMachine[machine.number]! += free >= wholeMilli ? 1 : -1
    if (machine.isUnsettled || machine.gpus.length === 1 || this.#severals.length === 0) return
    machine.isUnsettled = true
    this.#unsettled.push(machine)
  }

  /** Brings machines to where they belong now. Not sooner: often several of one machine are taken, or given back, at once. */
  settle() {
    for (let machine = this.#unsettled.pop(); machine; machine = this.#unsettled.pop()) {
      machine.isUnsettled = false
      // One that has lost its last GPU meanwhile has given its number away.
      if (machine.gpus.length > 0) this.#seat(machine)
    }
  }

  /** With those that have two, three, … whole GPUs, as far as it has so many. */
  #seat({ number, gpus, places, profile }: Machine) {
    const { cost, price, priceOnMachine } = this.table
    let priceFrom = Infinity
    for (const gpu of gpus) if (this.isWhole(gpu) && price[gpu]! < priceFrom) priceFrom = price[gpu]!
    priceOnMachine[number] = priceFrom
    let [count, sum, next] = [0, 0, 0]
    for (const gpu of gpus) {
      if (!this.isWhole(gpu)) continue
      sum += cost[gpu]!
      if (++count !== this.#severals[next]) continue
      next++
      const lane = profile.several(count)
      const place = placeOf(stepOf(sum), number)
      const before = places[count] ?? -1
      if (before !== place) this.lanes.remove(lane, before)
      this.lanes.add(lane, place, count * priceFrom)
      places[count] = place
    }
  }
}

function noteSpecs(slot: Slot) {
  slot.specs = slot.gpu.specs
  const { largest } = slot.machine.profile
  largest.cores = Math.max(largest.cores, slot.specs?.cpu_cores ?? 0)
  largest.ramGb = Math.max(largest.ramGb, slot.specs?.ram_gb ?? 0)
  largest.storageGb = Math.max(largest.storageGb, slot.specs?.storage_gb ?? 0)
}
