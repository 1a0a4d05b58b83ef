import { wholeMilli } from '@orbyte/protocol'
import { costFactor, milliOn, type Warmth } from './expected-cost.ts'
import type { GpuIndex } from './gpu-index.ts'
import type { MachineSize, Profile } from './gpu-profile.ts'
import { canRun, type Wanted } from './matching.ts'
import type { Holders } from './model-holders.ts'
import { createRoomValue } from './packing.ts'
import { kindOf, RoomPenalties } from './room-penalty.ts'
import { createTaskMix } from './task-mix.ts'

/** A profile that fits what is wanted, and what the task takes of each GPU, in thousandths. */
export type FittingProfile = { readonly profile: Profile; readonly milliEach: number }

/** The profiles that fit what is wanted, and the lanes to look for it in. */
export class Fitting {
  readonly wanted: Wanted
  /** What its machine has to have at least; null: anything. */
  readonly machineSize: MachineSize | null
  readonly profiles: FittingProfile[] = []
  /** Of each lane: its number. This and the next are read for each task, so they lie apart. */
  readonly lanes: number[] = []
  /** Of each lane: what to multiply an hour's cost by, for what the task is expected to cost there. */
  readonly factors: number[] = []
  /** Of each lane: what the task takes of a GPU there. */
  readonly millis: number[] = []
  /** Of each lane: whose GPUs are in it. */
  readonly owners: FittingProfile[] = []
  readonly #holders: Holders | null
  readonly #byProfile = new Map<Profile, FittingProfile>()
  #profilesSeen = 0
  #warmSeen = 0

  constructor(wanted: Wanted, index: GpuIndex) {
    this.wanted = wanted
    const { min_cpu_cores: cores = 0, min_ram_gb: ramGb = 0, min_storage_gb: storageGb = 0 } = wanted.requirements
    this.machineSize = cores + ramGb + storageGb === 0 ? null : { cores, ramGb, storageGb }
    // A model that is spread over several GPUs is loaded anew.
    this.#holders = wanted.modelName === null || wanted.gpus > 1 ? null : index.holdersOf(wanted.modelName)
    if (wanted.gpus > 1) index.seatMachines(wanted.gpus)
  }

  /** Profiles and lanes that have come since. */
  update(profiles: readonly Profile[]) {
    for (; this.#profilesSeen < profiles.length; this.#profilesSeen++) {
      const profile = profiles[this.#profilesSeen]!
      if (!canRun(this.wanted, profile.sample)) continue
      const fitting = { profile, milliEach: milliOn(this.wanted, profile.sample) }
      this.profiles.push(fitting)
      this.#byProfile.set(profile, fitting)
      this.#add(this.#mainLane(fitting), fitting, this.wanted.modelName === null ? 'loaded' : 'absent')
    }
    if (!this.#holders) return
    for (; this.#warmSeen < this.#holders.all.length; this.#warmSeen++) {
      const { profile, lane, warmth, level } = this.#holders.all[this.#warmSeen]!
      if (level !== this.#warmLevel) continue
      const fitting = this.#byProfile.get(profile)
      // An engine that is warm is nobody's who has a share: see `warmthOn`.
      const isOwn = warmth === 'loaded' && this.wanted.part !== null
      if (fitting) this.#add(lane, fitting, isOwn ? 'cached' : warmth)
    }
  }

  /** Of lanes of those that have the model at hand. */
  get #warmLevel(): number {
    return this.wanted.part === null ? wholeMilli : 1
  }

  #mainLane({ profile, milliEach }: FittingProfile): number {
    if (this.wanted.gpus > 1) return profile.several(this.wanted.gpus)
    return this.wanted.part === null ? profile.whole : profile.partsFrom(milliEach)
  }

  #add(lane: number, fitting: FittingProfile, warmth: Warmth) {
    this.lanes.push(lane)
    this.factors.push(costFactor(this.wanted, fitting.profile.sample, warmth))
    this.millis.push(fitting.milliEach)
    this.owners.push(fitting)
  }
}

/** How often what was learnt of the mix, of how long tasks take and of what is free is taken into account. */
const renewalMs = 10_000
const fittingsMax = 1_000
/** An arrival counts half once so many others have come. */
const tasksRemembered = 10_000
const kindsMax = 64

/** Which profiles fit whom, as long as that holds, and what the GPUs are worth to those who come. */
export class Fittings {
  readonly #index: GpuIndex
  readonly #byKey = new Map<string, Fitting>()
  readonly #mix = createTaskMix<Wanted>({ tasksRemembered, kindsMax })
  #renewedAtMs = -Infinity
  #numbering = 0
  penalties = new RoomPenalties(() => 0)

  constructor(index: GpuIndex) {
    this.#index = index
  }

  /** For a task that is looked for. */
  of(wanted: Wanted, nowMs: number): Fitting {
    if (nowMs - this.#renewedAtMs >= renewalMs) this.#renew(nowMs)
    return this.#of(wanted)
  }

  arrived(wanted: Wanted) {
    this.#mix.add(wanted.key, wanted)
  }

  #of(wanted: Wanted): Fitting {
    // To make one may renumber lanes (`GpuIndex.holdersOf`), also amid a renewal: what those made before know is for others then.
    if (this.#numbering !== this.#index.numbering) {
      this.#numbering = this.#index.numbering
      this.#byKey.clear()
    }
    let fitting = this.#byKey.get(wanted.key)
    if (!fitting) {
      if (this.#byKey.size >= fittingsMax) this.#byKey.delete(this.#byKey.keys().next().value!)
      fitting = new Fitting(withoutName(wanted), this.#index)
      this.#byKey.set(wanted.key, fitting)
    }
    fitting.update(this.#index.profiles)
    return fitting
  }

  #renew(nowMs: number) {
    this.#renewedAtMs = nowMs
    this.#byKey.clear()
    const mix = this.#mix.all().map(({ asked, weight }) => {
      const { profiles } = this.#of(asked)
      const shape = { gpus: asked.gpus, milliEach: profiles[0]?.milliEach ?? wholeMilli, cpuMilli: 0, ramMib: 0 }
      const kinds = asked.part === null ? [0, 1] : [1]
      const runsOn = new Set(profiles.flatMap(({ profile }) => kinds.map((isShared) => kindOf(profile, isShared))))
      return { shape, weight, runsOn }
    })
    this.penalties = new RoomPenalties(createRoomValue(mix, this.#freeMilliByKind()))
  }

  #freeMilliByKind(): Map<string, number> {
    const { free, isShared } = this.#index.table
    const byKind = new Map<string, number>()
    for (const profile of this.#index.profiles) {
      const sums: [number, number] = [0, 0]
      for (const number of profile.members) sums[isShared[number] as 0 | 1] += free[number]!
      for (const kind of [0, 1] as const) byKind.set(kindOf(profile, kind), sums[kind])
    }
    return byKind
  }
}

/** Which GPU is meant by name is seen when it comes to it. */
function withoutName(wanted: Wanted): Wanted {
  const { gpu_id: _any, ...requirements } = wanted.requirements
  return { ...wanted, requirements }
}
