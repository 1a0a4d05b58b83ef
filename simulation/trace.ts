import { createHash } from 'node:crypto'
import type { SimulatedClock } from './simulated-clock.ts'

/** What happened, line by line: for a person where it is kept, as one hash always. */
export type Trace = {
  (line: string): void
  lines(): readonly string[]
  hash(): string
}

export function createTrace(clock: SimulatedClock, { isKept }: { isKept: boolean }): Trace {
  const hash = createHash('sha256')
  const lines: string[] = []
  const trace = (text: string) => {
    const line = `${timeOf(clock.nowMs())}  ${text}`
    hash.update(`${line}\n`)
    if (isKept) lines.push(line)
  }
  return Object.assign(trace, { lines: () => lines, hash: () => hash.copy().digest('hex') })
}

/** Minutes, seconds and milliseconds of the market's own time. */
function timeOf(ms: number): string {
  const minutes = String(Math.floor(ms / 60_000)).padStart(3, '0')
  return `${minutes}:${String(Math.floor(ms / 1_000) % 60).padStart(2, '0')}.${String(ms % 1_000).padStart(3, '0')}`
}
