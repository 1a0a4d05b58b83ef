import { wholeMilli } from '@orbyte/protocol'
import type { Lanes, Row } from './gpu-lane.ts'
import type { Profile } from './gpu-profile.ts'

/** So many models are known, or twice as many as GPUs have. */
const modelsMax = 1_000

/** `level`: what has to be free, as of all lanes; 1: of those that may be shared. */
export type WarmLane = {
  readonly profile: Profile
  readonly warmth: 'loaded' | 'cached'
  readonly level: number
  readonly lane: number
}

const keyOf = ({ profile, warmth, level }: Omit<WarmLane, 'lane'>): number =>
  profile.number * 4 + (warmth === 'loaded' ? 2 : 0) + (level === wholeMilli ? 1 : 0)

/** The GPUs that have a certain model at hand, in memory or on disk, by profile. */
export class Holders {
  readonly #lanes: Lanes
  /** By level. */
  readonly #rows: Readonly<Record<number, Row>> = { 1: [], [wholeMilli]: [] }
  /** In the sequence in which they came. */
  readonly all: WarmLane[] = []
  /** The same by `keyOf`. */
  readonly #byKey = new Map<number, WarmLane>()
  /** How many GPUs have it, free or busy. */
  gpus = 0

  constructor(lanes: Lanes) {
    this.#lanes = lanes
  }

  laneOf(profile: Profile, warmth: 'loaded' | 'cached', level: number): number {
    const key = keyOf({ profile, warmth, level })
    const known = this.#byKey.get(key)
    if (known) return known.lane
    const one = { profile, warmth, level, lane: this.#lanes.create(level, this.#rows[level]) }
    this.all.push(one)
    this.#byKey.set(key, one)
    return one.lane
  }

  /** Those of other profiles are no more. */
  retain(isKept: (profile: Profile) => boolean) {
    for (const one of this.all) {
      if (isKept(one.profile)) continue
      this.#lanes.release(one.lane, this.#rows[one.level])
      this.#byKey.delete(keyOf(one))
    }
    this.all.splice(0, this.all.length, ...this.#byKey.values())
  }

  /** No GPU has it, and it is forgotten. */
  dissolve() {
    this.retain(() => false)
    for (const row of Object.values(this.#rows)) this.#lanes.dissolve(row)
  }
}

export function createModels(lanes: Lanes) {
  const byName = new Map<string, Holders>()
  let most = modelsMax
  return {
    /** `onForgotten`: lanes have other numbers than before. */
    of(name: string, onForgotten: () => void): Holders {
      const known = byName.get(name)
      if (known) return known
      // Whoever asks may name any model: those that no GPU has are forgotten from time to time.
      if (byName.size >= most) {
        for (const [each, holders] of byName) {
          if (holders.gpus > 0) continue
          holders.dissolve()
          byName.delete(each)
        }
        most = Math.max(modelsMax, 2 * byName.size)
        onForgotten()
      }
      const holders = new Holders(lanes)
      byName.set(name, holders)
      return holders
    },
    retain(isKept: (profile: Profile) => boolean) {
      for (const holders of byName.values()) holders.retain(isKept)
    },
  }
}
