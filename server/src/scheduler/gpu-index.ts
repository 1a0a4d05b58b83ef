import { wholeMilli } from '@orbyte/protocol'
import type { MarketGpu } from '../gpus/gpu-registry.ts'
import { Numbered } from '../gpus/numbered.ts'
import { hourCost } from './expected-cost.ts'
import { Lists } from './flat-lists.ts'
import { Lanes, placeOf, stepOf } from './gpu-lane.ts'
import {
  createProfiles,
  hasFields,
  type Kind,
  type Profile,
  type ProfileFields,
  profileFieldsOf,
} from './gpu-profile.ts'
import { GpuTable, Machine, machineKeyOf, Slot } from './gpu-slot.ts'
import { createModels, type Holders } from './model-holders.ts'
import { isBelowOwnMinimum } from './rankers.ts'

/** What can be had of a GPU now. */
export type Availability = {
  /** It takes tasks, though it may be busy now. */
  readonly isThere: boolean
  /** Thousandths that are free; 0: none, or it cannot be asked. */
  readonly freeMilli: number
}

/** What is missing in any lane that it belongs in (`GpuTable.missing`). */
const inAllLanes = -1

/** So many profiles may be without a GPU. */
const emptiedMax = 100

/**
 * The GPUs of the market, kept so that the best free one for a task is found without looking at all of them (gpu-search.ts).
 *
 * GPUs that fit the same tasks are of one profile: whether a task fits is decided once for all of them. In a lane they lie by what
 * they cost, cheapest first. A GPU lies in several: with the whole ones, with those of which parts can be had, and with those of
 * either that have a certain model at hand; its machine with those that have two, three, … free.
 *
 * What is free always lies where it belongs or, as machines may, before that. What is not may lie there still: whoever searches sees
 * in the table that it is not, and drops it.
 */
export class GpuIndex {
  readonly lanes = new Lanes()
  readonly table = new GpuTable()
  /** By their numbers: the lanes in which each is found when enough of it is free. */
  readonly #lanesOfGpus = new Lists()
  readonly #profiles = createProfiles(this.lanes)
  readonly #models = createModels(this.lanes)
  readonly #byId = new Map<string, MarketGpu>()
  /** By number, as is the next. */
  readonly #gpus: (MarketGpu | undefined)[] = []
  readonly #slots: (Slot | undefined)[] = []
  readonly #machines = new Numbered<Machine>()
  /** How many GPUs of one machine tasks have asked for, lowest first. */
  readonly #severals: number[] = []
  /** Machines that may have to be elsewhere among those that have several. */
  readonly #unsettled: number[] = []
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

  get(gpuId: string): MarketGpu | undefined {
    return this.#byId.get(gpuId)
  }

  has(gpu: MarketGpu): boolean {
    return this.#gpus[gpu.number] === gpu
  }

  gpu(number: number): MarketGpu {
    return this.#gpus[number]!
  }

  machine(number: number): Machine {
    return this.#machines.get(number)!
  }

  machineOf(gpu: number): Machine {
    return this.machine(this.table.machine[gpu]!)
  }

  isWhole(number: number): boolean {
    return this.table.free[number] === wholeMilli
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
  put(gpu: MarketGpu, { isThere, freeMilli }: Availability) {
    const { number } = gpu
    const known = this.#slots[number]
    if (known && known.gpu !== gpu) throw new Error(`${gpu.id} has the number of ${known.gpu.id}`)
    const slot = known ?? this.#create(gpu)
    const { table } = this
    const isOffered = !isBelowOwnMinimum(gpu)
    table.isOffered[number] = isOffered ? 1 : 0
    const cost = hourCost(gpu)
    const price = gpu.priceMicrosPerHour
    const isPlaced = hasFields(gpu, slot.fields) && slot.machine.key === machineKeyOf(gpu)
    const hasModels = slot.loadedModels === gpu.loadedModels && slot.cachedModels === gpu.cachedModels
    const isPriced = table.cost[number] === cost && table.price[number] === price
    if (!isPlaced || !hasModels || !isPriced) {
      this.#unseat(slot)
      if (!isPlaced) this.#place(slot)
      if (!hasModels) this.#setModels(slot)
      table.cost[number] = cost
      table.price[number] = price
      table.place[number] = placeOf(stepOf(cost), number)
      this.#lanesOfGpus.set(number, this.#lanesOf(slot))
      slot.machine.gpus.sort((a, b) => table.cost[a]! - table.cost[b]!)
    }
    if (slot.specs !== gpu.specs || !isPlaced) noteSpecs(slot)
    this.#setThere(slot, isOffered && isThere)
    this.setFree(number, freeMilli)
  }

  /** Like `put` where nothing else has changed. */
  setFree(number: number, freeMilli: number) {
    const { isOffered, isShared } = this.table
    const isHad = isOffered[number] === 1 && (isShared[number] === 1 || freeMilli === wholeMilli)
    this.#become(number, isHad ? freeMilli : 0)
  }

  remove(gpu: MarketGpu) {
    if (!this.has(gpu)) return
    const slot = this.#slots[gpu.number]!
    this.#unseat(slot)
    this.#takeOut(slot)
    for (const holders of slot.holders) holders.gpus--
    this.#byId.delete(gpu.id)
    this.#gpus[gpu.number] = undefined
    this.#slots[gpu.number] = undefined
  }

  #create(gpu: MarketGpu): Slot {
    const slot = new Slot(gpu, this.#placeFor(gpu))
    this.#byId.set(gpu.id, gpu)
    this.#gpus[gpu.number] = gpu
    this.#slots[gpu.number] = slot
    this.#putIn(slot)
    // Not yet known: it has no place in a lane.
    this.table.cost[gpu.number] = -1
    this.table.missing[gpu.number] = inAllLanes
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
    const key = machineKeyOf(gpu)
    const known = kind.machines.get(key)
    if (known) return known
    const profile = this.#profiles.withRoom(kind, gpu)
    const machine = this.#machines.add((number) => new Machine(number, { kind, key, isShared: gpu.sharing, profile }))
    kind.machines.set(key, machine)
    return machine
  }

  #putIn(slot: Slot) {
    const { machine } = slot
    const { number } = slot.gpu
    const { profile } = machine
    this.table.reach(Math.max(number, machine.number))
    this.table.machine[number] = machine.number
    this.table.isShared[number] = machine.isShared ? 1 : 0
    machine.gpus = machine.gpus.concat(number)
    this.table.gpusOnMachine[machine.number] = machine.gpus.length
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

  #takeOut({ gpu: { number }, machine, at }: Slot) {
    const { profile, places } = machine
    machine.gpus = machine.gpus.filter((gpu) => gpu !== number)
    this.table.gpusOnMachine[machine.number] = machine.gpus.length
    const last = profile.members.pop()!
    if (last !== number) {
      profile.members[at] = last
      this.#slots[last]!.at = at
    }
    if (profile.members.length === 0) this.#emptied++
    if (machine.gpus.length > 0) return
    for (const several of this.#severals) this.lanes.remove(profile.several(several), places[several] ?? -1)
    machine.kind.machines.delete(machine.key)
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
  #lanesOf({ machine: { profile, isShared }, loadedModels: loaded, cachedModels: cached }: Slot): number[] {
    const warm = [...new Set([...loaded, ...cached])].flatMap((name) => {
      const warmth = loaded.includes(name) ? 'loaded' : 'cached'
      const levels = isShared ? [wholeMilli, 1] : [wholeMilli]
      return levels.map((level) => this.holdersOf(name).laneOf(profile, warmth, level))
    })
    return [profile.whole, ...(isShared ? profile.parts : []), ...warm]
  }

  /** Out of all that others would find it by. */
  #unseat(slot: Slot) {
    this.#setThere(slot, false)
    const { number } = slot.gpu
    this.#become(number, 0)
    const { values, starts, lengths } = this.#lanesOfGpus
    for (let at = 0; at < lengths[number]!; at++)
      this.lanes.remove(values[starts[number]! + at]!, this.table.place[number]!)
    this.#lanesOfGpus.set(number, [])
    this.table.missing[number] = inAllLanes
  }

  #setThere({ gpu: { number }, machine }: Slot, isThere: boolean) {
    const { isThere: column, price } = this.table
    if ((column[number] === 1) === isThere) return
    column[number] = isThere ? 1 : 0
    if (isThere) machine.profile.list(price[number]!, machine)
    else machine.profile.unlist(price[number]!, machine)
  }

  #become(number: number, free: number) {
    const { free: column, missing, machine: machines, wholeOnMachine, gpusOnMachine } = this.table
    const before = column[number]!
    if (free === before) return
    column[number] = free
    if (free > before && missing[number] !== 0) this.#findAgain(number)
    if (free < wholeMilli && before < wholeMilli) return
    const machine = machines[number]!
    wholeOnMachine[machine]! += free === wholeMilli ? 1 : -1
    if (free === wholeMilli && gpusOnMachine[machine]! > 1 && this.#severals.length > 0) this.unsettle(machine)
  }

  /** Back into the lanes in which it is missing and that it has enough free for. */
  #findAgain(number: number) {
    const { free, missing, price, place } = this.table
    const { values, starts, lengths } = this.#lanesOfGpus
    const before = missing[number]!
    const end = starts[number]! + lengths[number]!
    let still = 0
    for (let at = starts[number]!; at < end; at++) {
      const lane = values[at]!
      const bit = 1 << lane
      if ((before & bit) === 0) continue
      if (this.lanes.levels[lane]! > free[number]!) still |= bit
      else this.lanes.add(lane, place[number]!, price[number]!)
    }
    missing[number] = still
  }

  /** The machine is brought to where it belongs before the next search begins (`settle`). */
  unsettle(machine: number) {
    if (this.table.isUnsettled[machine] === 1) return
    this.table.isUnsettled[machine] = 1
    this.#unsettled.push(machine)
  }

  /** Brings machines to where they belong now. Not sooner: often several of one machine are given back at once. */
  settle() {
    for (let number = this.#unsettled.pop(); number !== undefined; number = this.#unsettled.pop()) {
      this.table.isUnsettled[number] = 0
      const machine = this.#machines.get(number)
      if (machine) this.#seat(machine)
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
