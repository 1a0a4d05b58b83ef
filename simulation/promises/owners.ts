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
  /** An owner's wishes to end maintenance: how many there were, and how many have had no answer. */
  const endings = new Map<string, { asked: number; unanswered: number }>()
  /** Attempts whose GPU was reclaimed, and when. */
  const toEnd = new Map<string, number>()
  /** When GPUs were last reclaimed, on the market's clock. */
  const reclaims = new Map<string, string>()
  const endingsOf = (ownerId: string) => endings.get(ownerId) ?? { asked: 0, unanswered: 0 }
  const isoNow = () => new Date(epochMs + clock.nowMs()).toISOString()
  const isBroken = (message: string) => broken('a GPU is its owner’s', message)

  runs.onBegin(({ process, attemptId, devices }) => {
    const machine = process.name.split('.')[0]!
    if (pauses.get(machine)?.isTold)
      isBroken(
        `${devices.map(({ uuid }) => uuid).join(' ')} of ${machine} begins ${attemptId}, and its owner has paused it`,
      )
  })

  function hear({ type, attempt_id }: CommittedEvent) {
    if (type !== 'attempt.accepted' && type !== 'attempt.ended') return
    const { offered_at } = store.attempt(attempt_id!)!
    for (const { gpu_id } of store.gpusOf(attempt_id!)) {
      const since = maintained.get(gpu_id)?.since
      if (since !== undefined && offered_at > since)
        isBroken(`${gpu_id} is offered ${attempt_id}, and is in maintenance since ${since}`)
      const reclaimedAt = reclaims.get(gpu_id)
      if (type === 'attempt.accepted' && reclaimedAt !== undefined && offered_at < reclaimedAt)
        isBroken(`${gpu_id} was asked for ${attempt_id} when it was reclaimed, and gets it afterwards`)
    }
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

    /**
     * The owner is about to set a GPU into maintenance. To be called when the market has told them that it is. False: they have
     * asked for the end of it meanwhile, and nobody knows which of both came first.
     */
    setsMaintenance(gpuId: string, ownerId: string): () => boolean {
      const { asked, unanswered } = endingsOf(ownerId)
      return () => {
        if (unanswered > 0 || endingsOf(ownerId).asked > asked) return false
        maintained.set(gpuId, { ownerId, since: isoNow() })
        return true
      }
    },
    /** The owner is about to end maintenance of all GPUs. To be called with the answer. */
    endsMaintenance(ownerId: string): () => void {
      for (const [gpuId, one] of maintained) if (one.ownerId === ownerId) maintained.delete(gpuId)
      const { asked, unanswered } = endingsOf(ownerId)
      endings.set(ownerId, { asked: asked + 1, unanswered: unanswered + 1 })
      return () => {
        const now = endingsOf(ownerId)
        endings.set(ownerId, { ...now, unanswered: now.unanswered - 1 })
      }
    },

    /**
     * The owner is about to take a GPU back. To be called when the market has told them that it is theirs again: what ran there ends
     * now, uncharged, and what was asked never runs. Not `isSure`: they may have given it back meanwhile, and what began then may go on.
     */
    reclaims(gpuId: string): (isSure: boolean) => void {
      const askedAt = isoNow()
      return (isSure) => {
        if (isSure) reclaims.set(gpuId, isoNow())
        for (const { id, offered_at } of store.openAttempts())
          if ((isSure || offered_at < askedAt) && store.gpusOf(id).some(({ gpu_id }) => gpu_id === gpuId))
            toEnd.set(id, clock.nowMs())
      }
    },
  }
}
