import type { Wanted } from './matching.ts'

/** A task that got a GPU: what it wanted, who got it, and for how much. */
export type Demand = {
  readonly wanted: Wanted
  readonly gpuIds: readonly string[]
  /** Of an hour of one of them, as a whole. */
  readonly priceMicrosPerHour: number
  readonly atMs: number
}
/** How long tasks of a kind ran lately. */
export type TypicalRun = { readonly ms: number; readonly tasks: number }
/** How much of which GPUs it has matters for how long it runs. */
type Kind = Pick<Wanted, 'taskType' | 'modelName'> & Partial<Pick<Wanted, 'gpus' | 'part'>>

export type RecentDemand = ReturnType<typeof createRecentDemand>

const runsPerKindMax = 50
const kindsMax = 1_000

/**
 * What was asked for lately, in memory: the basis of what owners and renters are told to expect. `demandsMax`: so many of the last
 * matches are kept. It begins anew with the process.
 */
export function createRecentDemand({ demandsMax = 500 }: { demandsMax?: number } = {}) {
  const demands: Demand[] = []
  let oldest = 0
  const runs = new Map<string, number[]>()
  const keyOf = ({ taskType, modelName, gpus = 1, part }: Kind) =>
    `${taskType} ${gpus} ${part?.milli ?? ''} ${modelName ?? ''}`

  return {
    matched(demand: Demand) {
      if (demands.length < demandsMax) return void demands.push(demand)
      demands[oldest] = demand
      oldest = (oldest + 1) % demandsMax
    },
    all: (): readonly Demand[] => demands,

    completed(kind: Kind, runMs: number) {
      const key = keyOf(kind)
      const known = runs.get(key) ?? []
      // Last in the map is latest heard of.
      runs.delete(key)
      runs.set(key, [...known.slice(1 - runsPerKindMax), runMs])
      if (runs.size > kindsMax) runs.delete(runs.keys().next().value!)
    },
    /** The median of the last ones. Null: none has run since the market was started. */
    typicalRun(kind: Kind): TypicalRun | null {
      const known = runs.get(keyOf(kind))
      if (!known) return null
      return { ms: median(known), tasks: known.length }
    },
  }
}

/** Of at least one number: the middle one, or the lower of the two in the middle. */
export function median(numbers: readonly number[]): number {
  return [...numbers].sort((a, b) => a - b)[(numbers.length - 1) >> 1]!
}
