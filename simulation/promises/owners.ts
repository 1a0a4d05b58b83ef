import { epochMs } from '../simulated-clock.ts'
import type { CommittedEvent, Evidence, Watch } from './evidence.ts'

export type OwnersWatch = ReturnType<typeof watchOwners>

/** Within this a task that ran on a GPU is over for the market once its owner has taken the GPU back. */
const reclaimMsMax = 5_000

/** A GPU is its owner's: what they take back, at the machine or at the market, begins nothing until they give it back. */
export function watchOwners({ clock, store, runs, wellMs, broken }: Evidence) {
  /** Machines whose owner has paused all of their GPUs, and whether the agent has said that they are. */
  const pauses = new Map<string, { isTold: boolean }>()
  /** GPUs in maintenance: since when, on the market's clock, their owner knows that it is so. */
  const maintained = new Map<string, { ownerId: string; since: string }>()
  /** How many of an owner's wishes to end maintenance have had no answer. */
  const endings = new Map<string, number>()
  /** Attempts whose GPU was reclaimed, and when. */
  const toEnd = new Map<string, number>()
  const isBroken = (message: string) => broken('a GPU is its owner’s', message)

  runs.onBegin(({ process, attemptId, deviceUuid }) => {
    const machine = process.name.split('.')[0]!
    if (pauses.get(machine)?.isTold)
      isBroken(`${deviceUuid} of ${machine} begins ${attemptId}, and its owner has paused it`)
  })

  function hear({ type, attempt_id }: CommittedEvent) {
    if (type !== 'attempt.offered') return
    const { gpu_id, offered_at } = store.attempt(attempt_id!)!
    const since = maintained.get(gpu_id)?.since
    if (since !== undefined && offered_at > since)
      isBroken(`${gpu_id} is offered ${attempt_id}, and is in maintenance since ${since}`)
  }

  function checkReclaimed() {
    for (const [attemptId, sinceMs] of toEnd) {
      if (store.attempt(attemptId)!.ended_at !== null) toEnd.delete(attemptId)
      else if (Math.min(clock.nowMs() - sinceMs, wellMs()) > reclaimMsMax)
        isBroken(`its GPU was reclaimed, and ${attemptId} goes on`)
    }
  }

  const watch: Watch = { hear, everyHour: checkReclaimed }
  return {
    ...watch,
    /** The owner tells the agent to pause all GPUs of the machine. To be called when the agent has said that they are. */
    pausesHere(machine: string): () => void {
      const pause = { isTold: false }
      pauses.set(machine, pause)
      return () => (pause.isTold = true)
    },
    /** The owner is about to say that the agent may go on. */
    resumesHere: (machine: string) => void pauses.delete(machine),

    /** The market has told the owner that the GPU is in maintenance. */
    inMaintenance(gpuId: string, ownerId: string) {
      if ((endings.get(ownerId) ?? 0) > 0) return
      maintained.set(gpuId, { ownerId, since: new Date(epochMs + clock.nowMs()).toISOString() })
    },
    /** The owner is about to end maintenance of all GPUs. To be called with the answer. */
    endsMaintenance(ownerId: string): () => void {
      for (const [gpuId, one] of maintained) if (one.ownerId === ownerId) maintained.delete(gpuId)
      endings.set(ownerId, (endings.get(ownerId) ?? 0) + 1)
      return () => void endings.set(ownerId, endings.get(ownerId)! - 1)
    },

    /** The market has told the owner that the GPU is theirs again: what ran there ends now, uncharged. */
    reclaimed(gpuId: string) {
      for (const { id, gpu_id } of store.openAttempts()) if (gpu_id === gpuId) toEnd.set(id, clock.nowMs())
    },
  }
}
