import { type AttemptStatus, type TaskType, wholeMilli } from '@orbyte/protocol'
import type { Taken } from '../gpus/gpu-registry.ts'
import type { Beginning } from '../tasks/attempt-service.ts'
import type { StoredAttemptGpu } from '../tasks/attempt-gpu-store.ts'
import type { StoredAttempt } from '../tasks/attempt-store.ts'
import type { Timing } from '../config.ts'
import type { OpenTask } from '../tasks/task-store.ts'
import type { Warmth } from './expected-cost.ts'
import type { QueuedTask } from './task-queue.ts'

/** An attempt that an agent may be working on, as memory knows it. The database decides; this is what finds and fences it. */
export type ActiveAttempt = {
  readonly attempt: StoredAttempt
  readonly task: OpenTask
  readonly queued: QueuedTask
  /** As they are stored: none where it has all of one. */
  readonly gpus: readonly StoredAttemptGpu[]
  /** What it has of which GPUs, once it is accepted. */
  readonly taken: readonly Taken[]
  readonly durationMsMax: number
  /** When its agent was asked, in milliseconds since 1970. */
  readonly askedAtMs: number
  /** Whether the GPU had the model at hand then. Null: that was before the market was started. */
  readonly warmth: Warmth | null
  status: AttemptStatus
  /** While what begins it is on its way to the disk. */
  beginning: (Beginning & { readonly kept: Promise<boolean> }) | null
  /** When the server heard that it is ready, in milliseconds since 1970: the meter's start. */
  readyAtMs: number | null
  /** How long it has run, by the last that its agent said. */
  reportedRunMs: number
  outputLength: number
  outputBytes: number
  /** Size of each file that has begun to arrive, as its first chunk said. */
  readonly fileBytes: Map<string, number>
  /** Those of which a part is here, and not yet all. */
  readonly unfinishedFiles: Set<string>
  /** Its agent has said that it has ended, and the result is not here yet. */
  isResultAnnounced: boolean
  logLines: number
  /** Since this process knows the attempt. */
  logBytes: number
  /** As above. */
  pieces: number
  /** The files that are being written: the last chunk of each. A result waits for them. */
  readonly filesOnTheirWay: Map<string, Promise<void>>
  /**
   * While a transaction that ends it is on its way to the disk: resolves when it is there or has failed. Whoever waits for it looks
   * again without a pause (`while`), because another may have begun.
   */
  ending: Promise<void> | null
  /**
   * open: the market waits for what the agent makes of it; ended: its end is written; stopped: the agent was told, and its GPUs
   * wait until the agent confirms.
   */
  standing: 'open' | 'ended' | 'stopped'
  /** What ends the phase that it is in. */
  timers: (() => void)[]
  /** What could not be written and is tried again, whatever phase it gets into meanwhile. */
  readonly retries: Set<() => void>
}

export type AttemptRef = { readonly attempt_id: string; readonly fencing_token: string }

export type AttemptBook = ReturnType<typeof createAttemptBook>

/** `added` and `removed` hear of each attempt, once. */
type Listeners = { added(active: ActiveAttempt): void; removed(active: ActiveAttempt): void }

export function createAttemptBook({ added, removed }: Listeners) {
  const byId = new Map<string, ActiveAttempt>()
  const byAgent = createIndex(({ attempt }) => [attempt.agent_id])
  const byGpu = createIndex(({ taken }) => taken.map(({ gpuId }) => gpuId))
  const byTask = createIndex(({ task }) => [task.id])
  const indexes = [byAgent, byGpu, byTask]
  return {
    add(active: ActiveAttempt) {
      byId.set(active.attempt.id, active)
      for (const index of indexes) index.add(active)
      added(active)
    },

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
    ofAgent: byAgent.of,
    ofTask: byTask.of,
    ofGpu: byGpu.of,
    /** Thousandths of the GPU that its agent has been asked for, and has not answered. */
    offeredMilli(gpuId: string): number {
      let milli = 0
      for (const active of byGpu.of(gpuId)) if (active.status === 'offered') milli += milliOf(active, gpuId)
      return milli
    },
    countOpen: () => [...byId.values()].filter(({ standing }) => standing === 'open').length,

    /** Nothing that is still on its way has an effect on it any more. */
    remove(active: ActiveAttempt) {
      active.standing = 'stopped'
      stopAll(active)
      if (!byId.delete(active.attempt.id)) return
      for (const index of indexes) index.delete(active)
      removed(active)
    },

    stop() {
      for (const active of byId.values()) stopAll(active)
    },
  }
}

function createIndex(keysOf: (active: ActiveAttempt) => readonly string[]) {
  const groups = new Map<string, Set<ActiveAttempt>>()
  return {
    add(active: ActiveAttempt) {
      for (const key of keysOf(active)) {
        const group = groups.get(key)
        if (group) group.add(active)
        else groups.set(key, new Set([active]))
      }
    },
    delete(active: ActiveAttempt) {
      for (const key of keysOf(active)) {
        const group = groups.get(key)
        group?.delete(active)
        if (group?.size === 0) groups.delete(key)
      }
    },
    of: (key: string) => [...(groups.get(key) ?? [])],
  }
}

/** Thousandths that it has of one of its GPUs. */
export function milliOf({ taken }: Pick<ActiveAttempt, 'taken'>, gpuId: string): number {
  return taken.find((one) => one.gpuId === gpuId)!.milli
}

/** How many GPUs it has; a share counts as a part of one. */
export function gpuCountOf({ taken }: Pick<ActiveAttempt, 'taken'>): number {
  return taken.reduce((sum, { milli }) => sum + milli, 0) / wholeMilli
}

/** Whether it has one GPU, all of it: only that says something of the GPU's speed. */
export function hasWholeGpu({ taken }: Pick<ActiveAttempt, 'taken'>): boolean {
  return taken.length === 1 && taken[0]!.milli === wholeMilli
}

/** How long an agent may go on from now without hearing from the market: it has stopped before it counts as dead. */
export function deadlineInMs({ deadMs, deadlineMarginMs }: Timing): number {
  return deadMs - deadlineMarginMs
}

/** Text and files together. */
export function outputBytesOf({ outputBytes, fileBytes }: ActiveAttempt): number {
  return [...fileBytes.values()].reduce((sum, bytes) => sum + bytes, outputBytes)
}

/** What they make can be looked at: text as it comes, files, vectors with the result. Others may do anything, in silence. */
export function isGeneration({ task }: { task: { task_type: TaskType } }): boolean {
  return ['text_generation', 'image_generation', 'embedding'].includes(task.task_type)
}

/** Whether there is any evidence, beside its agent's word, that it does what was asked. */
export function hasShownWork(active: ActiveAttempt): boolean {
  return !isGeneration(active) || active.outputLength > 0 || active.fileBytes.size > 0
}

/** Whether the market still waits for what the agent makes of it. */
export function isOpen(active: ActiveAttempt | null): active is ActiveAttempt {
  return active !== null && active.standing === 'open' && active.ending === null
}

export function stopTimers(active: ActiveAttempt) {
  for (const cancel of active.timers.splice(0)) cancel()
}

function stopAll(active: ActiveAttempt) {
  stopTimers(active)
  for (const cancel of active.retries) cancel()
}
