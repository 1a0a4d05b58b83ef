import type { Context } from '../context.ts'

/**
 * Counts how often each agent connects. Each time costs the market a transaction, a look for matches, and whatever was offered
 * to it; one that comes too often is to come later. A number, how many milliseconds later; 0: now.
 */
export function createFlapLimit({ clock, config }: Pick<Context, 'clock' | 'config'>) {
  /** Whoever has come last is last. */
  const times = new Map<string, number[]>()
  const { flapMs } = config.timing
  const { connectionsPerAgentMax } = config.limits

  /** Nothing is kept of agents that have not come for long. */
  function forgetOld(nowMs: number) {
    for (const [agentId, past] of times) {
      if (past.at(-1)! > nowMs - flapMs) return
      times.delete(agentId)
    }
  }

  return (agentId: string): number => {
    const nowMs = clock.now()
    forgetOld(nowMs)
    const lately = (times.get(agentId) ?? []).filter((timeMs) => timeMs > nowMs - flapMs)
    if (lately.length >= connectionsPerAgentMax) return lately[0]! + flapMs - nowMs
    times.delete(agentId)
    times.set(agentId, lately.concat(nowMs))
    return 0
  }
}
