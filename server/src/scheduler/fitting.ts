import { wholeMilli } from '@orbyte/protocol'
import { type GpuIndex, type MachineSize, undivided } from './gpu-index.ts'
import type { Machine, Slot } from './gpu-slot.ts'
import type { Lanes } from './gpu-lane.ts'
import type { Profile } from './gpu-profile.ts'
import { costFactor, milliOn, type Warmth, warmths } from './expected-cost.ts'
import { canRun, type Wanted } from './matching.ts'
import { createRoomValue, milliOf, type Room, type RoomValue, type Shape } from './packing.ts'
import { createTaskMix } from './task-mix.ts'

/** Where in the index a task is looked for. */
export type Place = {
  readonly lanes: Lanes<Slot> | Lanes<Machine>
  readonly warmth: Warmth
  /** What its pools have to have free, at least and at most. */
  readonly freeFrom: number
  readonly freeTo: number
}

function placesFor(index: GpuIndex, { gpus, part, modelName }: Wanted): Place[] {
  const cold = modelName === null ? 'loaded' : 'absent'
  if (gpus > 1) return [{ lanes: index.several(gpus), warmth: cold, freeFrom: 0, freeTo: undivided }]
  const free = { freeFrom: part?.milli ?? wholeMilli, freeTo: part === null ? undivided : wholeMilli }
  const others = part === null ? [index.whole] : index.parts(part.milli)
  const { loaded, cached } = modelName === null ? {} : index.warm(modelName)
  return [
    // An engine that is warm is nobody's who has a share: see `warmthOn`.
    ...(loaded ? [{ lanes: loaded, warmth: part === null ? ('loaded' as const) : ('cached' as const), ...free }] : []),
    ...(cached ? [{ lanes: cached, warmth: 'cached' as const, ...free }] : []),
    ...others.map((lanes) => ({ lanes, warmth: cold, ...free }) as const),
  ]
}

/** The profiles that fit what is wanted, each with an entry in the arrays. */
export class Fitting {
  readonly wanted: Wanted
  readonly places: readonly Place[]
  /** What its machine has to have at least; null: anything. */
  readonly machineSize: MachineSize | null
  /** The profiles' numbers. */
  readonly numbers: number[] = []
  /** What to multiply an hour's cost by, for what the task is expected to cost: by whether the model is at hand. */
  readonly factors: Readonly<Record<Warmth, number[]>> = { loaded: [], cached: [], absent: [] }
  /** What the task takes of each GPU, in thousandths. */
  readonly milliEach: number[] = []
  /** By profile number and what is free before. */
  readonly #penalties = new Map<number, number>()
  #profilesSeen = 0

  constructor(wanted: Wanted, index: GpuIndex) {
    this.wanted = wanted
    this.places = placesFor(index, wanted)
    const { min_cpu_cores: cores = 0, min_ram_gb: ramGb = 0, min_storage_gb: storageGb = 0 } = wanted.requirements
    this.machineSize = cores + ramGb + storageGb === 0 ? null : { cores, ramGb, storageGb }
  }

  /** Profiles that have come since. */
  update(profiles: readonly Profile[]) {
    for (; this.#profilesSeen < profiles.length; this.#profilesSeen++) {
      const { number, sample } = profiles[this.#profilesSeen]!
      if (!canRun(this.wanted, sample)) continue
      const milli = milliOn(this.wanted, sample)
      this.numbers.push(number)
      this.milliEach.push(milli)
      for (const warmth of warmths) this.factors[warmth].push(costFactor(this.wanted, sample, warmth))
    }
  }

  /** From 0 to 1: how much worse off the market is if the task takes this of what is `free`, than if one takes it that needs it. */
  penalty(entry: number, free: number, value: RoomValue): number {
    const number = this.numbers[entry]!
    const key = number * 2 * wholeMilli + free
    const known = this.#penalties.get(key)
    if (known !== undefined) return known
    const shape = { gpus: this.wanted.gpus, milliEach: this.milliEach[entry]!, cpuMilli: 0, ramMib: 0 }
    const [before, after] = roomsOf(shape, free)
    const lossPerMilli = (value(String(number), before) - value(String(number), after)) / milliOf(shape)
    const penalty = lossPerMilli / (1 + lossPerMilli)
    this.#penalties.set(key, penalty)
    return penalty
  }
}

/** A machine on which so many GPUs, or so much of one, are free, and what is left with the task on it. */
function roomsOf({ gpus, milliEach }: Shape, free: number): [Room, Room] {
  const room = (freeMilli: number[]): Room => ({ freeMilli, cpuMilli: 0, ramMib: 0 })
  if (milliEach < wholeMilli) return [room([free]), room([free - milliEach])]
  const whole = Array<number>(free).fill(wholeMilli)
  return [room(whole), room([...whole.slice(gpus), ...Array<number>(gpus).fill(0)])]
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
  value: RoomValue = () => 0

  constructor(index: GpuIndex) {
    this.#index = index
  }

  /** For a task that is looked for. */
  of(wanted: Wanted, nowMs: number): Fitting {
    const isRenumbered = this.#numbering !== this.#index.numbering
    if (isRenumbered || nowMs - this.#renewedAtMs >= renewalMs) this.#renew(nowMs)
    return this.#of(wanted)
  }

  arrived(wanted: Wanted) {
    this.#mix.add(wanted.key, wanted)
  }

  #of(wanted: Wanted): Fitting {
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
    this.#numbering = this.#index.numbering
    this.#byKey.clear()
    const mix = this.#mix.all().map(({ asked, weight }) => {
      const { numbers, milliEach } = this.#of(asked)
      const shape = { gpus: asked.gpus, milliEach: milliEach[0] ?? wholeMilli, cpuMilli: 0, ramMib: 0 }
      return { shape, weight, runsOn: new Set(numbers.map(String)) }
    })
    const free = this.#index.freeMilliOf.map((milli, number) => [String(number), milli] as const)
    this.value = createRoomValue(mix, new Map(free))
  }
}

/** Which GPU is meant by name is seen when it comes to it. */
function withoutName(wanted: Wanted): Wanted {
  const { gpu_id: _any, ...requirements } = wanted.requirements
  return { ...wanted, requirements }
}
