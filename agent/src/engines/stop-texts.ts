/**
 * Lets streamed text through up to the first stop text, which may come in any number of pieces and start anywhere in one.
 * Holds back the end of the text only while it could be the beginning of a stop text. (llama.cpp's bindings look for stop
 * texts at the start of a token only.) Where several match, the one that is complete first counts, so that the result
 * does not depend on how the text was cut.
 */
export function createStopFilter(stops: readonly string[]): StopFilter {
  let held = ''
  let hasStopped = false

  return {
    add(piece) {
      if (hasStopped) return ''
      const text = held + piece
      const stopAt = firstStop(text, stops)
      if (stopAt !== null) {
        hasStopped = true
        held = ''
        return text.slice(0, stopAt)
      }
      const safeLength = text.length - longestBeginning(text, stops)
      held = text.slice(safeLength)
      return text.slice(0, safeLength)
    },
    end() {
      const rest = held
      held = ''
      return rest
    },
    hasStopped: () => hasStopped,
  }
}

export interface StopFilter {
  /** What may be shown now. */
  add(piece: string): string
  /** What was held back, when no more text comes. */
  end(): string
  hasStopped(): boolean
}

function firstStop(text: string, stops: readonly string[]): number | null {
  let first: { start: number; end: number } | null = null
  for (const stop of stops) {
    const start = text.indexOf(stop)
    if (start < 0) continue
    const end = start + stop.length
    if (first === null || end < first.end || (end === first.end && start < first.start)) first = { start, end }
  }
  return first?.start ?? null
}

/** Length of the longest end of the text that is the beginning of a stop text. */
function longestBeginning(text: string, stops: readonly string[]): number {
  let longest = 0
  for (const stop of stops) {
    for (let length = Math.min(stop.length - 1, text.length); length > longest; length--) {
      if (text.endsWith(stop.slice(0, length))) longest = length
    }
  }
  return longest
}
