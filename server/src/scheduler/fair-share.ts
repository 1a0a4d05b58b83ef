import { wholeMilli } from '@orbyte/protocol'

/**
 * Who has had how much of the market's GPUs lately, so that those who have had least go first. Pure: no clock, no database.
 *
 * A renter's use is the time for which they held GPUs; half of what is past is forgotten every `halfLifeMs` (the decayed usage of
 * Slurm's fair-share priority). What they hold now counts from when they got it, and a `quantumMs` more for each GPU: otherwise
 * whoever has used little would get every GPU that is free at the same moment. All of it is divided by the renter's weight.
 */
export type FairShareConfig = { readonly halfLifeMs: number; readonly quantumMs: number }
export type Share = { readonly weight: number; readonly gpuMs: number; readonly held: number }
export type FairShare = ReturnType<typeof createFairShare>

/** GPUs, or a part of one, from `sinceMs` on. */
export type Held = { readonly gpus: number; readonly sinceMs: number }

type Use = { pastMs: number; pastAtMs: number; held: number; heldSinceMsSum: number }

/** Use that has decayed to less than this is forgotten. */
const forgottenMs = 1

export function createFairShare({ halfLifeMs, quantumMs }: FairShareConfig) {
  const uses = new Map<string, Use>()
  const weights = new Map<string, number>()

  const weightOf = (renterId: string) => weights.get(renterId) ?? 1

  function useOf(renterId: string): Use {
    let use = uses.get(renterId)
    if (!use) uses.set(renterId, (use = { pastMs: 0, pastAtMs: 0, held: 0, heldSinceMsSum: 0 }))
    return use
  }

  const pastMs = ({ pastMs, pastAtMs }: Use, nowMs: number) =>
    pastMs * 2 ** (-Math.max(0, nowMs - pastAtMs) / halfLifeMs)

  function gpuMsOf(renterId: string, nowMs: number): number {
    const use = uses.get(renterId)
    if (!use) return 0
    return pastMs(use, nowMs) + Math.max(0, use.held * nowMs - use.heldSinceMsSum)
  }

  return {
    hold(renterId: string, { gpus, sinceMs }: Held) {
      const use = useOf(renterId)
      use.held += gpus
      use.heldSinceMsSum += gpus * sinceMs
    },

    /** Ends what `hold` began with the same. */
    free(renterId: string, { gpus, sinceMs }: Held, nowMs: number) {
      const use = useOf(renterId)
      // Thousandths add up to what they were only if they are rounded.
      use.held = Math.round((use.held - gpus) * wholeMilli) / wholeMilli
      use.heldSinceMsSum = use.held === 0 ? 0 : use.heldSinceMsSum - gpus * sinceMs
      addPast(use, gpus * (nowMs - sinceMs), nowMs)
    },

    /** Use from before this process, which ended at `endedMs`. */
    remember(renterId: string, gpuMs: number, endedMs: number) {
      addPast(useOf(renterId), gpuMs, endedMs)
    },

    /** How much less than others the renter is entitled to what comes free at `nowMs`: the smallest goes first. */
    standingOf(renterId: string, nowMs: number): number {
      const held = uses.get(renterId)?.held ?? 0
      return (gpuMsOf(renterId, nowMs) + held * quantumMs) / weightOf(renterId)
    },

    /** What one more GPU adds to a renter's standing at once. */
    stepOf: (renterId: string) => quantumMs / weightOf(renterId),

    /** 1 where nobody has said otherwise; a renter of weight 2 gets twice as much. */
    weightOf,
    setWeight(renterId: string, weight: number) {
      if (weight === 1) weights.delete(renterId)
      else weights.set(renterId, weight)
    },

    /** Whoever has used anything lately, or weighs other than 1. */
    renters: () => new Set([...uses.keys(), ...weights.keys()]),
    of: (renterId: string, nowMs: number): Share => ({
      weight: weightOf(renterId),
      gpuMs: gpuMsOf(renterId, nowMs),
      held: uses.get(renterId)?.held ?? 0,
    }),

    /** From time to time, so that memory holds only who matters. */
    forget(nowMs: number) {
      for (const [renterId, use] of uses) if (use.held === 0 && pastMs(use, nowMs) < forgottenMs) uses.delete(renterId)
    },
  }

  /** Both are brought to the later of the two times before they are added. */
  function addPast(use: Use, gpuMs: number, endedMs: number) {
    if (endedMs >= use.pastAtMs) {
      use.pastMs = pastMs(use, endedMs) + Math.max(0, gpuMs)
      use.pastAtMs = endedMs
    } else use.pastMs += Math.max(0, gpuMs) * 2 ** ((endedMs - use.pastAtMs) / halfLifeMs)
  }
}
