import { type ChildProcess, fork } from 'node:child_process'
import { availableParallelism } from 'node:os'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { runWorld, stretch, type WorldReport } from './world.ts'

/*
 * Looks for broken promises in many simulated markets:
 *
 *   npm run simulate -- [--seeds 100] [--hours 24] [--first-seed 1]     many worlds, in as many processes as there are cores
 *   npm run simulate -- --seed 17 [--hours 24] --trace                  one of them, line by line
 *
 * Ends with status 1 where a promise was broken, and says how to see it again.
 */
const { values } = parseArgs({
  options: {
    seeds: { type: 'string', default: '100' },
    hours: { type: 'string', default: '24' },
    'first-seed': { type: 'string', default: '1' },
    seed: { type: 'string' },
    processes: { type: 'string', default: String(availableParallelism()) },
    trace: { type: 'boolean', default: false },
    child: { type: 'boolean', default: false },
  },
})
const hours = Number(values.hours)
type Summary = Omit<WorldReport, 'faults' | 'trace'> & { readonly faults: readonly (readonly [string, number])[] }

if (values.child) answerSeeds()
else await main()

async function main() {
  const first = Number(values.seed ?? values['first-seed'])
  const count = values.seed === undefined ? Number(values.seeds) : 1
  const startMs = performance.now()
  const summaries = values.trace ? [await showOne(first)] : await runMany(first, count)
  const seconds = (performance.now() - startMs) / 1_000
  const faults = new Map<string, number>()
  for (const summary of summaries)
    for (const [kind, times] of summary.faults) faults.set(kind, (faults.get(kind) ?? 0) + times)
  const violations = summaries.reduce((sum, summary) => sum + summary.violations.length, 0)
  const total = (key: 'steps' | 'tasks') => summaries.reduce((sum, summary) => sum + summary[key], 0)
  const faultCount = [...faults.values()].reduce((sum, times) => sum + times, 0)

  say('')
  for (const [kind, times] of [...faults].sort()) say(`${String(times).padStart(9)}  ${kind}`)
  say(
    `\n${summaries.length} seeds of ${hours} h (constants stretched ${stretch} times): ${total('tasks')} tasks, ${total('steps')} steps, ` +
      `${faultCount} faults, ${violations} violations in ${seconds.toFixed(1)} s`,
  )
  const figures = { violations, steps: total('steps'), faults: faultCount, seeds: summaries.length }
  for (const [figure, value] of Object.entries(figures))
    say(JSON.stringify({ figure: `simulate.${figure}`, value, unit: '' }))
  process.exitCode = violations === 0 ? 0 : 1
}

function say(line: string) {
  process.stdout.write(`${line}\n`)
}

async function showOne(seed: number): Promise<Summary> {
  const report = await runWorld({ seed, hours, isTraceKept: true })
  for (const line of report.trace) say(line)
  return summaryOf(report)
}

function summaryOf({ trace: _lines, faults, ...rest }: WorldReport): Summary {
  return { ...rest, faults: [...faults] }
}

/** Hands out seeds to processes of their own, one at a time. */
async function runMany(first: number, count: number): Promise<Summary[]> {
  const summaries: Summary[] = []
  let next = first
  const processes = Math.min(count, Math.max(1, Number(values.processes)))
  const report = (summary: Summary) => {
    summaries.push(summary)
    tell(summary)
    if (summaries.length % 100 === 0) process.stderr.write(`${summaries.length} of ${count} seeds\n`)
  }
  const serve = (child: ChildProcess) =>
    new Promise<void>((resolve, reject) => {
      const handOut = () => (next < first + count ? child.send(next++) : child.disconnect())
      child.on('message', (message) => {
        if (message !== 'ready') report(message as Summary)
        handOut()
      })
      child.on('error', reject)
      child.on('exit', (code) =>
        code === 0 ? resolve() : reject(new Error(`a simulating process ended with ${code}`)),
      )
    })
  const arguments_ = ['--child', '--hours', String(hours)]
  await Promise.all(Array.from({ length: processes }, () => serve(fork(fileURLToPath(import.meta.url), arguments_))))
  return summaries.sort((a, b) => a.seed - b.seed)
}

function tell({ seed, violations, steps }: Summary) {
  for (const { promise, message } of violations) say(`seed ${seed}, after ${steps} steps: ${promise}: ${message}`)
  if (violations.length > 0) say(`  see it again: npm run simulate -- --seed ${seed} --hours ${hours} --trace`)
}

function answerSeeds() {
  process.on('message', (seed: number) => {
    void runWorld({ seed, hours }).then((report) => process.send!(summaryOf(report)))
  })
  process.send!('ready')
}
