import { wholeMilli } from '@orbyte/protocol'
import type { MarketGpu } from '../gpus/gpu-registry.ts'
import type { Lanes } from './gpu-lane.ts'
import type { Machine } from './gpu-slot.ts'
import type { Wanted } from './matching.ts'

/**
 * What the ranker chain (rankers.ts) reads of a GPU that is not its price, its record, its machine or what it does now. Whether it
 * may be shared is not of it, because that is nothing to those who want all of a GPU: those that may are in lanes of their own.
 */
export type ProfileFields = Pick<
  MarketGpu,
  | 'kind'
  | 'model'
  | 'vramGb'
  | 'usableVramGb'
  | 'processVramGb'
  | 'region'
  | 'taskTypes'
  | 'modelFormats'
  | 'several'
  | 'shares'
  | 'ownModels'
  | 'limits'
>

export function profileFieldsOf(gpu: MarketGpu): ProfileFields {
  const { kind, model, vramGb, usableVramGb, processVramGb, region } = gpu
  const { taskTypes, modelFormats, several, shares, ownModels, limits } = gpu
  const hardware = { kind, model, vramGb, usableVramGb, processVramGb, region }
  return { ...hardware, taskTypes, modelFormats, several, shares, ownModels, limits }
}

/** Lists are the same objects until they are reported anew, so this is quick. */
export function hasFields(gpu: MarketGpu, fields: ProfileFields): boolean {
  return (
    gpu.limits === fields.limits &&
    gpu.taskTypes === fields.taskTypes &&
    gpu.modelFormats === fields.modelFormats &&
    gpu.several === fields.several &&
    gpu.shares === fields.shares &&
    gpu.ownModels === fields.ownModels &&
    gpu.region === fields.region &&
    gpu.vramGb === fields.vramGb &&
    gpu.usableVramGb === fields.usableVramGb &&
    gpu.processVramGb === fields.processVramGb &&
    gpu.model === fields.model &&
    gpu.kind === fields.kind
  )
}

export type MachineSize = { cores: number; ramGb: number; storageGb: number }

/** Those of which parts can be had lie in a lane for each quarter that they have free: a search need not pass those with too little. */
const partLevels = [1, wholeMilli / 4, wholeMilli / 2, (wholeMilli * 3) / 4]

/** So many GPUs, and then the next are of another profile, so that lanes stay short: to put a member between others moves these. */
const membersMax = 1_000

/**
 * All that decides whether a GPU can run a task, but for its price and what it does now: the same for many. Those that are free
 * lie in lanes: all whole ones, those of which parts can be had, and machines that have two, three, … whole ones.
 */
export class Profile {
  readonly number: number
  /** A copy of the first GPU that had it; what is particular to that one means nothing. */
  readonly sample: MarketGpu
  /** Numbers of GPUs, free or not. */
  readonly members: number[] = []
  /** Of those that are there, lowest first. */
  readonly prices: number[] = []
  /** Of those that may be shared, besides. */
  readonly sharedPrices: number[] = []
  /** What no machine has had more of. */
  largest: MachineSize = { cores: 0, ramGb: 0, storageGb: 0 }
  readonly whole: number
  readonly #lanes: Lanes
  readonly #parts: number[] = []
  readonly #several: (number | undefined)[] = []

  constructor(number: number, sample: MarketGpu, lanes: Lanes) {
    this.number = number
    this.sample = sample
    this.#lanes = lanes
    this.whole = lanes.create(wholeMilli)
  }

  /** Lowest level first. */
  get parts(): readonly number[] {
    if (this.#parts.length === 0) for (const level of partLevels) this.#parts.push(this.#lanes.create(level))
    return this.#parts
  }

  /** In which all are that have so many thousandths free. */
  partsFrom(milli: number): number {
    let level = partLevels.length - 1
    while (partLevels[level]! > milli) level--
    return this.parts[level]!
  }

  /** Of machines that have so many whole GPUs. */
  several(gpus: number): number {
    return (this.#several[gpus] ??= this.#lanes.create(gpus))
  }

  /** False: no machine is as large. */
  mayBeAsLarge({ cores, ramGb, storageGb }: MachineSize): boolean {
    const { largest } = this
    return largest.cores >= cores && largest.ramGb >= ramGb && largest.storageGb >= storageGb
  }

  /** Of those that are there and can be had as it is wanted, lowest first. */
  pricesFor({ part }: Pick<Wanted, 'part'>): readonly number[] {
    return part === null ? this.prices : this.sharedPrices
  }

  /** The highest of these that is not above `most`. Null: there is none. */
  dearestFor(wanted: Pick<Wanted, 'part'>, most: number): number | null {
    const prices = this.pricesFor(wanted)
    return prices[placeAfter(prices, most) - 1] ?? null
  }

  list(price: number, { isShared }: { isShared: boolean }) {
    for (const prices of isShared ? [this.prices, this.sharedPrices] : [this.prices])
      prices.splice(placeAfter(prices, price), 0, price)
  }

  unlist(price: number, { isShared }: { isShared: boolean }) {
    for (const prices of isShared ? [this.prices, this.sharedPrices] : [this.prices])
      prices.splice(placeAfter(prices, price) - 1, 1)
  }

  /** No GPU has it any more. */
  release() {
    for (const lane of [this.whole, ...this.#parts, ...this.#several]) if (lane !== undefined) this.#lanes.release(lane)
  }
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

/** GPUs of one kind are of one profile, as long as it has room. */
export type Kind = {
  /** Of the first of them. */
  readonly fields: ProfileFields
  readonly profiles: Profile[]
  /** By `machineKeyOf`. */
  readonly machines: Map<string, Machine>
}

export function createProfiles(lanes: Lanes) {
  const kinds = new Map<string, Kind>()
  const all: Profile[] = []
  let profileNumbers = 0
  return {
    /** In the sequence in which they came. */
    all: all as readonly Profile[],
    kinds: () => kinds.values(),
    kindOf(fields: ProfileFields): Kind {
      // Whether the owner's lowest price is kept is seen GPU by GPU.
      const key = JSON.stringify({ ...fields, limits: { ...fields.limits, min_price_per_hour: null } })
      const known = kinds.get(key)
      if (known) return known
      const kind: Kind = { fields, profiles: [], machines: new Map() }
      kinds.set(key, kind)
      return kind
    },
    withRoom({ profiles }: Kind, gpu: MarketGpu): Profile {
      const known = profiles.find(({ members }) => members.length < membersMax)
      if (known) return known
      const profile = new Profile(profileNumbers++, { ...gpu }, lanes)
      profiles.push(profile)
      all.push(profile)
      return profile
    },
    /** Those without a GPU are no more. */
    forgetEmpty() {
      all.length = 0
      for (const [key, { profiles }] of kinds) {
        for (const profile of profiles) if (profile.members.length === 0) profile.release()
        const kept = profiles.filter(({ members }) => members.length > 0)
        profiles.splice(0, profiles.length, ...kept)
        if (kept.length === 0) kinds.delete(key)
        all.push(...kept)
      }
    },
  }
}
