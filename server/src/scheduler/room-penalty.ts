import { wholeMilli } from '@orbyte/protocol'
import type { Profile } from './gpu-profile.ts'
import { milliOf, type Room, type RoomValue, type Shape } from './packing.ts'

/** What is free where a task may go: of the GPU, if it takes a part; else GPUs of the machine. `isShared`: 1 or 0. */
export type DrawnRoom = { readonly profile: Profile; readonly free: number; readonly isShared: number }
/** What it takes of each of so many GPUs. */
export type Taking = Pick<Shape, 'gpus' | 'milliEach'>

/** Parts can be had only of some GPUs of a profile, so its room is of two kinds. */
export const kindOf = ({ number }: Profile, isShared: number): string => `${number}${isShared ? ' shared' : ''}`

/** How much worse off the market is with a task in one place or in another, as long as what room is worth stays the same. */
export class RoomPenalties {
  readonly #value: RoomValue
  /** By what is taken, then by where. The same for all tasks that take as much, so that those few are in the processor's caches. */
  readonly #known = new Map<number, Map<number, number>>()

  constructor(value: RoomValue) {
    this.#value = value
  }

  /** From 0 to 1: how much worse off it is if the task takes this of what is free, than if one takes it that needs it. */
  of(taking: Taking, room: DrawnRoom): number {
    const known = this.#knownOf(taking)
    const key = (room.profile.number * 2 + room.isShared) * 2 * wholeMilli + room.free
    let penalty = known.get(key)
    if (penalty === undefined) {
      penalty = this.#penalty({ ...taking, cpuMilli: 0, ramMib: 0 }, room)
      known.set(key, penalty)
    }
    return penalty
  }

  #knownOf({ gpus, milliEach }: Taking): Map<number, number> {
    const key = gpus * 2 * wholeMilli + milliEach
    const known = this.#known.get(key)
    if (known) return known
    const none = new Map<number, number>()
    this.#known.set(key, none)
    return none
  }

  #penalty(shape: Shape, { profile, free, isShared }: DrawnRoom): number {
    const [before, after] = roomsOf(shape, free)
    const kind = kindOf(profile, isShared)
    const lossPerMilli = (this.#value(kind, before) - this.#value(kind, after)) / milliOf(shape)
    return lossPerMilli / (1 + lossPerMilli)
  }
}

/** A machine on which so many GPUs, or so much of one, are free, and what is left with the task on it. */
function roomsOf({ gpus, milliEach }: Shape, free: number): [Room, Room] {
  const room = (freeMilli: number[]): Room => ({ freeMilli, cpuMilli: 0, ramMib: 0 })
  if (milliEach < wholeMilli) return [room([free]), room([free - milliEach])]
  const whole = Array<number>(free).fill(wholeMilli)
  return [room(whole), room([...whole.slice(gpus), ...Array<number>(gpus).fill(0)])]
}
