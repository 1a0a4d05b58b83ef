/**
 * What tasks ask for lately, learnt from those that arrive. An arrival counts half as much once `tasksRemembered` others have come
 * after it; of more than `kindsMax` kinds the rarer ones are forgotten.
 */
export function createTaskMix<Asked>(options: { tasksRemembered: number; kindsMax: number }) {
  const { tasksRemembered, kindsMax } = options
  const seen = new Map<string, { readonly asked: Asked; weight: number }>()
  /** What one more arrival counts. It grows instead of all others shrinking. */
  let weightNow = 1
  const growth = 2 ** (1 / tasksRemembered)

  function forget() {
    const kept = [...seen].sort(([, a], [, b]) => b.weight - a.weight).slice(0, Math.ceil(kindsMax / 2))
    seen.clear()
    for (const [key, { asked, weight }] of kept) seen.set(key, { asked, weight: weight / weightNow })
    weightNow = 1
  }

  return {
    /** `key`: the same for what asks for the same. */
    add(key: string, asked: Asked) {
      const known = seen.get(key)
      if (known) known.weight += weightNow
      else seen.set(key, { asked, weight: weightNow })
      weightNow *= growth
      if (seen.size > kindsMax || weightNow > 1e100) forget()
    },
    /** Weights are relative to each other. */
    all: () => [...seen.values()].map(({ asked, weight }) => ({ asked, weight: weight / weightNow })),
  }
}
