import type { AttemptStatus } from '@orbyte/protocol'
import type { StoredAttempt } from '../tasks/attempt-store.ts'
import type { StoredTask } from '../tasks/task-store.ts'
import type { QueuedTask } from './task-queue.ts'

/** An attempt that an agent may be working on, as memory knows it. The database decides; this is what finds and fences it. */
export type ActiveAttempt = {
  readonly attempt: StoredAttempt
  readonly task: StoredTask
  readonly queued: QueuedTask
  readonly durationMsMax: number
  status: AttemptStatus
  /** When the server heard that it is ready, in milliseconds since 1970: the meter's start. */
  readyAtMs: number | null
  /** How long it has run, by the last that its agent said. */
  reportedRunMs: number
  outputLength: number
  outputBytes: number
  /** Size of each file that has begun to arrive. */
  readonly fileBytes: Map<string, number>
  logLines: number
  /** The files that are being written: the last chunk of each. A result waits for them. */
  readonly filesOnTheirWay: Map<string, Promise<void>>
  /** The transaction that ends it, while it is on its way. */
  ending: Promise<boolean> | null
  /** It has ended for the market; its GPU waits until the agent confirms. */
  stopped: boolean
  timers: (() => void)[]
}

export type AttemptRef = { readonly attempt_id: string; readonly fencing_token: string }

export type AttemptBook = ReturnType<typeof createAttemptBook>

export function createAttemptBook() {
  const byId = new Map<string, ActiveAttempt>()
  return {
    add: (active: ActiveAttempt) => void byId.set(active.attempt.id, active),

    /**
     * The attempt that an agent's message is about, or null if the message is stale: an unknown attempt, one of another agent, or
     * a fencing token that is not current. A stale message changes nothing.
     */
    find(agentId: string, ref: AttemptRef): ActiveAttempt | null {
      const active = byId.get(ref.attempt_id)
      const current =
        active && active.attempt.agent_id === agentId && active.attempt.fencing_token === ref.fencing_token
      return current ? active : null
    },

    byId: (attemptId: string) => byId.get(attemptId),
    ofAgent: (agentId: string) => [...byId.values()].filter(({ attempt }) => attempt.agent_id === agentId),
    offersTo: (gpuId: string) =>
      [...byId.values()].some(({ attempt, status }) => attempt.gpu_id === gpuId && status === 'offered'),
    all: () => [...byId.values()],

    /** Nothing that is still on its way has an effect on it any more. */
    remove(active: ActiveAttempt) {
      active.stopped = true
      stopTimers(active)
      byId.delete(active.attempt.id)
    },

    stop() {
      for (const active of byId.values()) stopTimers(active)
    },
  }
}

/** Text and files together. */
export function outputBytesOf({ outputBytes, fileBytes }: ActiveAttempt): number {
  return [...fileBytes.values()].reduce((sum, bytes) => sum + bytes, outputBytes)
}

/** Whether the market still waits for what the agent makes of it. */
export function isOpen(active: ActiveAttempt | null): active is ActiveAttempt {
  return active !== null && !active.stopped && active.ending === null
}

export function stopTimers(active: ActiveAttempt) {
  for (const cancel of active.timers.splice(0)) cancel()
}
