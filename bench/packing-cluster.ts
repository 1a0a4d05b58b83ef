import { wholeMilli } from '@orbyte/protocol'
import { milliOf, type Room, roomsAfter } from '@orbyte/server/scheduler/packing.ts'
import type { PodClass, Trace } from './packing-trace.ts'

/** Machines that are alike in all that counts are in the same state, so what is known of one is known of all. */
export type State = {
  readonly id: number
  readonly kind: string
  readonly room: Room
  readonly freeMilli: number
  readonly wholeGpus: number
}
/** A machine, and the state that it would be in with the pod. */
export type Place = { readonly machine: number; readonly after: State }

export class Cluster {
  readonly #states = new Map<string, State>()
  /** By state, then by class of pods: the states that it may be in after. */
  readonly #after: State[][][] = []
  readonly #current: State[]
  readonly freeMilliOf = new Map<string, number>()

  constructor({ machines }: Trace) {
    this.#current = machines.map(({ kind, room }) => this.#state(kind, room))
    for (const { kind, freeMilli } of this.#current) this.#addFree(kind, freeMilli)
  }

  /** Of each machine, in the trace's sequence. */
  get states(): readonly State[] {
    return this.#current
  }

  /** Empty: it does not fit. */
  statesAfter(state: State, pod: PodClass): readonly State[] {
    const known = (this.#after[state.id] ??= [])
    return (known[pod.index] ??= this.#findAfter(state, pod))
  }

  place(pod: PodClass, { machine, after }: Place) {
    this.#current[machine] = after
    this.#addFree(after.kind, -milliOf(pod.shape))
  }

  #findAfter({ kind, room }: State, { shape, runsOn }: PodClass): State[] {
    if (shape.gpus > 0 && runsOn !== null && !runsOn.has(kind)) return []
    return roomsAfter(room, shape).map((after) => this.#state(kind, after))
  }

  #state(kind: string, room: Room): State {
    const key = `${kind} ${room.cpuMilli} ${room.ramMib} ${room.freeMilli.join(' ')}`
    const known = this.#states.get(key)
    if (known) return known
    const freeMilli = room.freeMilli.reduce((sum, milli) => sum + milli, 0)
    const wholeGpus = room.freeMilli.filter((milli) => milli === wholeMilli).length
    const state = { id: this.#states.size, kind, room, freeMilli, wholeGpus }
    this.#states.set(key, state)
    return state
  }

  #addFree(kind: string, milli: number) {
    this.freeMilliOf.set(kind, (this.freeMilliOf.get(kind) ?? 0) + milli)
  }
}
