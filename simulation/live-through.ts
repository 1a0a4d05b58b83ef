import { type ChildProcess, fork } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { runWorld, type WorldReport } from './world.ts'

/** What is told of a world between processes. */
export type Summary = Omit<WorldReport, 'faults' | 'trace'> & {
  readonly faults: readonly (readonly [string, number])[]
}

type Wish = {
  readonly first: number
  readonly count: number
  readonly hours: number
  readonly processes: number
  /** Nothing more is begun after the first seed that breaks a promise. */
  readonly untilBroken: boolean
  /** Called for each, in the order in which they end. */
  onEnd(summary: Summary): void
}

/** A world takes about a second. One that takes this long goes in circles. */
const worldMsMax = 300_000
/** A process lives through so many: the dead of a world, whose promises never resolve, stay in memory. */
const worldsPerProcess = 50

export function summaryOf({ trace: _lines, faults, ...rest }: WorldReport): Summary {
  return { ...rest, faults: [...faults] }
}

/** Lives through the worlds of so many seeds: here, or in processes of their own which are handed one seed at a time. */
export async function liveThrough(wish: Wish): Promise<Summary[]> {
  const { first, count, hours, untilBroken, onEnd } = wish
  const summaries: Summary[] = []
  let next = first
  let isBroken = false
  const isOver = () => next >= first + count || (untilBroken && isBroken)
  const take = () => (isOver() ? null : next++)
  const end = (summary: Summary) => {
    summaries.push(summary)
    isBroken ||= summary.violations.length > 0
    onEnd(summary)
  }
  const processes = Math.min(count, wish.processes)
  if (processes === 1)
    for (let seed = take(); seed !== null; seed = take()) end(summaryOf(await runWorld({ seed, hours })))
  else await Promise.all(Array.from({ length: processes }, () => runChildren(hours, { isOver, take, end })))
  return summaries.sort((a, b) => a.seed - b.seed)
}

type Seeds = { isOver: () => boolean; take: () => number | null; end: (summary: Summary) => void }

/** One process after the other. */
async function runChildren(hours: number, { isOver, take, end }: Seeds): Promise<void> {
  while (!isOver()) {
    const child = fork(fileURLToPath(new URL('simulate.ts', import.meta.url)), ['--child', '--hours', String(hours)])
    let left = worldsPerProcess
    const stuck = await serve(child, () => (left-- > 0 ? take() : null), end)
    if (stuck === null) continue
    const violation = { promise: 'a world comes to its end', atMs: 0, message: `it ran for ${worldMsMax / 1_000} s` }
    end({ seed: stuck, steps: 0, faults: [], violations: [violation], machines: 0, tasks: 0, traceHash: '' })
  }
}

/** Resolves with null once there are no more seeds, or with the one that did not come to its end. */
function serve(
  child: ChildProcess,
  take: () => number | null,
  end: (summary: Summary) => void,
): Promise<number | null> {
  return new Promise((resolve, reject) => {
    let seed: number | null = null
    let late: NodeJS.Timeout | undefined
    const handOut = () => {
      clearTimeout(late)
      seed = take()
      if (seed === null) return child.disconnect()
      child.send(seed)
      late = setTimeout(() => {
        child.kill('SIGKILL')
        resolve(seed)
      }, worldMsMax)
    }
    child.on('message', (message) => {
      if (message !== 'ready') end(message as Summary)
      handOut()
    })
    child.on('error', reject)
    child.on('exit', (code) => {
      clearTimeout(late)
      if (code === 0) resolve(null)
      else reject(new Error(`the process that lived through seed ${seed} ended with ${code}`))
    })
  })
}

/** The other end: lives through the seeds that it is handed. */
export function answerSeeds(hours: number) {
  process.on('message', (seed: number) => {
    void runWorld({ seed, hours }).then((report) => process.send!(summaryOf(report)))
  })
  process.send!('ready')
}
