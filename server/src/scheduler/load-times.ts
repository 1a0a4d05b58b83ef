import type { Warmth } from './expected-cost.ts'
import { median } from './recent-demand.ts'

const timesPerKindMax = 20
const kindsMax = 1_000

/** How long GPUs took lately until they were ready for a task, by its model and by whether they had it at hand. In memory. */
export function createLoadTimes() {
  const times = new Map<string, number[]>()
  const keyOf = (model: string, warmth: Warmth) => `${warmth} ${model}`
  return {
    add(model: string, warmth: Warmth, ms: number) {
      const key = keyOf(model, warmth)
      const known = times.get(key) ?? []
      // Last in the map is latest heard of.
      times.delete(key)
      times.set(key, [...known.slice(1 - timesPerKindMax), ms])
      if (times.size > kindsMax) times.delete(times.keys().next().value!)
    },
    /** The median. Null: not known. */
    of(model: string, warmth: Warmth): number | null {
      const known = times.get(keyOf(model, warmth))
      return known ? median(known) : null
    },
  }
}
