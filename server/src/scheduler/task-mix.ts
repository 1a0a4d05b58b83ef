import type { MixShape } from './packing.ts'

/**
 * What tasks ask for lately, learnt from those that arrive. An arrival counts half as much once `tasksRemembered` others have come
 * after it; what has become rare is forgotten.
 */
export function createTaskMix<T extends Pick<MixShape, 'shape' | 'runsOn'>>(options: {
  tasksRemembered: number
  shapesMax?: number
}) {
  const { tasksRemembered, shapesMax = 300 } = options
  const seen = new Map<string, { asked: T; weight: number }>()
  /** What one more arrival counts. It grows instead of all others shrinking. */
  let weightNow = 1
  const growth = 2 ** (1 / tasksRemembered)

  function forget() {
    const kept = [...seen].sort(([, a], [, b]) => b.weight - a.weight).slice(0, Math.ceil(shapesMax / 2))
    seen.clear()
    for (const [key, known] of kept) seen.set(key, { ...known, weight: known.weight / weightNow })
    weightNow = 1
  }

  return {
    add(asked: T) {
      const key = keyOf(asked)
      const known = seen.get(key)
      if (known) known.weight += weightNow
      else seen.set(key, { asked, weight: weightNow })
      weightNow *= growth
      if (seen.size > shapesMax || weightNow > 1e100) forget()
    },
    shapes: (): (T & MixShape)[] =>
      [...seen.values()].map(({ asked, weight }) => ({ ...asked, weight: weight / weightNow })),
  }
}

function keyOf({ shape, runsOn }: Pick<MixShape, 'shape' | 'runsOn'>): string {
  const { gpus, milliEach, cpuMilli, ramMib } = shape
  return `${gpus} ${milliEach} ${cpuMilli} ${ramMib} ${runsOn === null ? '' : [...runsOn].sort().join('|')}`
}
