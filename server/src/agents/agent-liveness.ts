import type { Liveness } from '@orbyte/protocol'
import TinyQueue from 'tinyqueue'
import type { Context } from '../context.ts'

type State = { readonly agentId: string; liveness: Liveness; heardMs: number; step: number; dueMs: number }

/**
 * What an agent's silence says: alive → suspect → unknown → dead. Any message brings it back to alive.
 *
 * All wait in one queue, by when to look at them next, and one timer waits for the first: thousands of timers would be most of
 * what is kept of the agents.
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
  const states = new Map<string, State>()
  const waiting = new TinyQueue<State>([], (a, b) => a.dueMs - b.dueMs)
  let timer: { readonly dueMs: number; readonly cancel: () => void } | null = null

  /** A state takes the place of the one before it, which is not looked at any more. */
  function begin(agentId: string, liveness: Liveness, step: number) {
    const state = { agentId, liveness, heardMs: context.clock.now(), step, dueMs: 0 }
    states.set(agentId, state)
    wait(state)
    awaitFirst()
  }

  function wait(state: State) {
    const next = steps[state.step]
    if (!next) return
    state.dueMs = state.heardMs + next.afterMs
    waiting.push(state)
  }

  function awaitFirst() {
    const first = waiting.peek()
    if (!first || (timer && timer.dueMs <= first.dueMs)) return
    timer?.cancel()
    const { dueMs } = first
    timer = { dueMs, cancel: context.clock.after(Math.max(0, dueMs - context.clock.now()), lookAtDue) }
  }

  function lookAtDue() {
    timer = null
    const nowMs = context.clock.now()
    for (let first = waiting.peek(); first && first.dueMs <= nowMs; first = waiting.peek()) {
      waiting.pop()
      if (states.get(first.agentId) === first) lookAt(first, nowMs)
    }
    awaitFirst()
  }

  function lookAt(state: State, nowMs: number) {
    const { liveness, afterMs } = steps[state.step]!
    // Most have been heard meanwhile.
    if (state.heardMs + afterMs > nowMs) return wait(state)
    state.liveness = liveness
    state.step++
    wait(state)
    changed(state.agentId, liveness)
  }

  return {
    heard(agentId: string) {
      const state = states.get(agentId)
      if (state?.liveness === 'alive') {
        state.heardMs = context.clock.now()
        return
      }
      begin(agentId, 'alive', 0)
      changed(agentId, 'alive')
    },
    /** An agent that has work from before the market's restart: it gets as long as one that was heard just now. */
    expect(agentId: string) {
      if (!states.has(agentId)) begin(agentId, 'unknown', 2)
    },
    of: (agentId: string): Liveness => states.get(agentId)?.liveness ?? 'dead',
    stop() {
      timer?.cancel()
      states.clear()
    },
  }
}
