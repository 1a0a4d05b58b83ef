import type { QueuedTask } from './task-queue.ts'

/** Of a group, who is first in turn; and since when whoever was first of it has waited. */
type Lack = { readonly queued: QueuedTask; readonly sinceMs: number }
export type LackingTasks = ReturnType<typeof createLackingTasks>
type Rules = {
  /** It wants more than what comes free at a time. */
  isLarge(queued: QueuedTask): boolean
  /** So long it waits before room is kept for it. */
  afterMs: number
}

/**
 * Who found nothing free in the look at the queue that is going on, or the last one, in turn. Only those who are large are noted
 * until one of them has waited for long enough; from then on all are, because whoever comes before it in turn would lose GPUs to
 * its room.
 */
export function createLackingTasks({ isLarge, afterMs }: Rules) {
  let byGroup = new Map<string, Lack>()
  let before = byGroup
  let areAllNoted = false
  /** Groups that fit nowhere, and until when they are not looked for again. */
  const fitNowhere = new Map<string, number>()

  const isDue = ({ sinceMs }: Lack, nowMs: number) => nowMs - sinceMs >= afterMs

  return {
    /** A look begins. */
    begin() {
      before = byGroup
      byGroup = new Map()
    },

    note(queued: QueuedTask) {
      if (!areAllNoted && !isLarge(queued)) return
      const { group, waitUntilMs, task } = queued
      // Others of the group may come before who was first, who has waited no less for that.
      const sinceMs = Math.min(waitUntilMs - task.max_wait_ms, before.get(group)?.sinceMs ?? Infinity)
      byGroup.set(group, { queued, sinceMs })
    },

    /** It has got what it wanted: who is next of its group has waited for as long as it has waited. */
    matched: (group: string) => void before.delete(group),
    has: (group: string) => byGroup.has(group),

    /** The look is over. Whether room is needed; and whether all were noted who come before whoever needs it. */
    end(nowMs: number): { isNeeded: boolean; areAll: boolean } {
      const areAll = areAllNoted
      areAllNoted = [...byGroup.values()].some((lack) => isDue(lack, nowMs) && isLarge(lack.queued))
      for (const group of fitNowhere.keys()) if (!byGroup.has(group)) fitNowhere.delete(group)
      return { isNeeded: areAllNoted, areAll }
    },

    clear() {
      byGroup.clear()
      areAllNoted = false
    },

    /**
     * Those who have waited for long enough, up to the last who is large. Those of whom it is not known that they fit nowhere come
     * first, so that each is reached.
     */
    due(nowMs: number): QueuedTask[] {
      const all = [...byGroup.values()].filter((lack) => isDue(lack, nowMs)).map(({ queued }) => queued)
      const due = all.slice(0, all.findLastIndex(isLarge) + 1)
      const untilMs = ({ group }: QueuedTask) => fitNowhere.get(group)
      const again = due.filter((queued) => (untilMs(queued) ?? Infinity) <= nowMs)
      return [...due.filter((queued) => untilMs(queued) === undefined), ...again]
    },

    fitsNowhere: (group: string, untilMs: number) => void fitNowhere.set(group, untilMs),
  }
}
