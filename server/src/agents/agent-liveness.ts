import type { Liveness } from '@orbyte/protocol'
import type { Context } from '../context.ts'

/**
 * What an agent's silence says: alive → suspect → unknown → dead. Any message brings it back to alive. Each step is a timer
 * that hearing from the agent cancels.
 */
export function createLiveness(
  context: Pick<Context, 'clock' | 'config'>,
  changed: (agentId: string, liveness: Liveness) => void,
) {
  const { suspectMs, unknownMs, deadMs } = context.config.timing
  const steps = [
    { liveness: 'suspect', afterMs: suspectMs },
    { liveness: 'unknown', afterMs: unknownMs },
    { liveness: 'dead', afterMs: deadMs },
  ] as const
  const states = new Map<string, { liveness: Liveness; cancel: () => void; heardMs: number }>()

  function wait(agentId: string, step: number) {
    const state = states.get(agentId)!
    const next = steps[step]
    if (!next) return
    const dueMs = state.heardMs + next.afterMs
    state.cancel = context.clock.after(dueMs - context.clock.now(), () => {
      // Heard meanwhile: the timer was left to run, since most of them are overtaken long before they fire.
      if (state.heardMs + next.afterMs > context.clock.now()) return wait(agentId, step)
      state.liveness = next.liveness
      wait(agentId, step + 1)
      changed(agentId, next.liveness)
    })
  }

  return {
    heard(agentId: string) {
      const state = states.get(agentId)
      const wasAlive = state?.liveness === 'alive'
      if (state) state.heardMs = context.clock.now()
      if (wasAlive) return
      state?.cancel()
      states.set(agentId, { liveness: 'alive', cancel: () => {}, heardMs: context.clock.now() })
      wait(agentId, 0)
      changed(agentId, 'alive')
    },
    /** An agent that has work from before the market's restart: it gets as long as one that was heard just now. */
    expect(agentId: string) {
      if (states.has(agentId)) return
      states.set(agentId, { liveness: 'unknown', cancel: () => {}, heardMs: context.clock.now() })
      wait(agentId, 2)
    },
    of: (agentId: string): Liveness => states.get(agentId)?.liveness ?? 'dead',
    stop() {
      for (const { cancel } of states.values()) cancel()
      states.clear()
    },
  }
}
