/**
 * Virtual time: a queue of what is due. It moves from one event to the next, and everything that an event sets off (all
 * microtasks) is done before the next one. That is a step.
 */
export type SimulatedClock = {
  /** Milliseconds since the world began. */
  nowMs(): number
  /** Calls `run` once. What is due at the same time comes in the order in which it was asked for. The result cancels it. */
  after(delayMs: number, run: () => void): () => void
  /** One event, and all that follows from it at once. False: nothing is due by `untilMs`, which is now. */
  step(untilMs: number): Promise<boolean>
}

/** When simulated worlds begin, in milliseconds since 1970. */
export const epochMs = Date.UTC(2026, 2, 1, 12)

type Due = { readonly dueMs: number; readonly place: number; run: (() => void) | null }

/** All promises that can settle by themselves have, once a turn of the event loop is over. */
const microtasks = () => new Promise<void>((resolve) => setImmediate(resolve))

export function simulatedClock(): SimulatedClock {
  const queue: Due[] = []
  let nowMs = 0
  let made = 0

  return {
    nowMs: () => nowMs,
    after(delayMs, run) {
      const due: Due = { dueMs: nowMs + Math.max(0, Math.ceil(delayMs)), place: made++, run }
      push(queue, due)
      return () => (due.run = null)
    },
    async step(untilMs) {
      while (queue.length > 0 && queue[0]!.run === null) pop(queue)
      const first = queue[0]
      if (!first || first.dueMs > untilMs) {
        nowMs = Math.max(nowMs, untilMs)
        return false
      }
      pop(queue)
      nowMs = first.dueMs
      const { run } = first
      first.run = null
      run!()
      await microtasks()
      return true
    },
  }
}

const isBefore = (a: Due, b: Due) => a.dueMs < b.dueMs || (a.dueMs === b.dueMs && a.place < b.place)

/** A binary heap, the earliest first. */
function push(heap: Due[], due: Due) {
  let at = heap.push(due) - 1
  while (at > 0) {
    const parent = (at - 1) >> 1
    if (!isBefore(due, heap[parent]!)) break
    heap[at] = heap[parent]!
    at = parent
  }
  heap[at] = due
}

function pop(heap: Due[]) {
  const last = heap.pop()!
  if (heap.length === 0) return
  let at = 0
  for (;;) {
    let child = 2 * at + 1
    if (child >= heap.length) break
    if (child + 1 < heap.length && isBefore(heap[child + 1]!, heap[child]!)) child++
    if (!isBefore(heap[child]!, last)) break
    heap[at] = heap[child]!
    at = child
  }
  heap[at] = last
}
