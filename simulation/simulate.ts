import { availableParallelism } from 'node:os'
import { type DefectReport, lookForDefects } from './defects/look-for-defects.ts'
import { faultKinds } from './faults/fault-kinds.ts'
import { answerSeeds, liveThrough, type Summary, summaryOf } from './live-through.ts'
import { simulateHelp, simulateOptions, type SimulateOptions, UsageError } from './simulate-options.ts'
import { runWorld, stretch } from './world.ts'

// npm run simulate: see simulate-options.ts for what it takes.

try {
  await main(simulateOptions(process.argv.slice(2), availableParallelism()))
} catch (error) {
  if (!(error instanceof UsageError)) throw error
  process.stderr.write(`${error.message}\n`)
  process.exitCode = 2
}

async function main(options: SimulateOptions) {
  switch (options.mode) {
    case 'help':
      return say(simulateHelp.trim())
    case 'child':
      return answerSeeds(options.hours)
    case 'trace':
      return trace(options)
    case 'seeds':
      return simulate(options)
    case 'defects':
      return findDefects(options)
  }
}

function say(line: string) {
  process.stdout.write(`${line}\n`)
}

type Of<Mode extends SimulateOptions['mode']> = Extract<SimulateOptions, { mode: Mode }>

async function trace({ seed, hours }: Of<'trace'>) {
  const startMs = performance.now()
  const report = await runWorld({ seed, hours, isTraceKept: true })
  for (const line of report.trace) say(line)
  conclude([summaryOf(report)], { hours, isJson: false, seconds: (performance.now() - startMs) / 1_000 })
}

async function simulate({ isJson, ...wish }: Of<'seeds'>) {
  const { hours, count } = wish
  const startMs = performance.now()
  const seconds = () => (performance.now() - startMs) / 1_000
  let ended = 0
  const summaries = await liveThrough({
    ...wish,
    onEnd(summary) {
      if (!isJson) tellBroken(summary, hours)
      if (++ended % 100 === 0) process.stderr.write(`${ended} of ${count} seeds in ${seconds().toFixed(0)} s\n`)
    },
  })
  conclude(summaries, { hours, isJson, seconds: seconds() })
}

function replayOf(seed: number, hours: number): string {
  return `npm run simulate -- --seed ${seed} --hours ${hours} --trace`
}

function tellBroken({ seed, violations, steps }: Summary, hours: number) {
  for (const { promise, message } of violations) say(`seed ${seed}, after ${steps} steps: ${promise}: ${message}`)
  if (violations.length > 0) say(`  see it again: ${replayOf(seed, hours)}`)
}

type Run = { readonly hours: number; readonly isJson: boolean; readonly seconds: number }

/** What came out of all of it; the last lines are figures. */
function conclude(summaries: readonly Summary[], { hours, isJson, seconds }: Run) {
  const faults = new Map<string, number>(faultKinds.map((kind) => [kind, 0]))
  for (const summary of summaries)
    for (const [kind, times] of summary.faults) faults.set(kind, (faults.get(kind) ?? 0) + times)
  const broken = summaries.filter(({ violations }) => violations.length > 0)
  const sum = (numbers: readonly number[]) => numbers.reduce((total, one) => total + one, 0)
  const totals = {
    violations: sum(broken.map(({ violations }) => violations.length)),
    steps: sum(summaries.map(({ steps }) => steps)),
    faults: sum([...faults.values()]),
    seeds: summaries.length,
  }
  const tasks = sum(summaries.map((summary) => summary.tasks))
  process.exitCode = totals.violations === 0 ? 0 : 1
  if (isJson) {
    const violations = broken.flatMap(({ seed, steps, violations: all }) =>
      all.map(({ promise, message }) => ({ seed, steps, promise, message, see_it_again: replayOf(seed, hours) })),
    )
    const { seeds, steps } = totals
    return say(JSON.stringify({ seeds, hours, tasks, steps, seconds, faults: Object.fromEntries(faults), violations }))
  }
  say('')
  for (const [kind, times] of faults) say(`${String(times).padStart(9)}  ${kind}`)
  const { seeds, steps, violations } = totals
  say(`
${seeds} seeds of ${hours} h (constants stretched ${stretch} times): ${tasks} tasks, ${steps} steps, ${totals.faults} faults, ${violations} violations in ${seconds.toFixed(1)} s`)
  for (const [figure, value] of Object.entries(totals))
    say(JSON.stringify({ figure: `simulate.${figure}`, value, unit: '' }))
}

async function findDefects({ isJson, ...wish }: Of<'defects'>) {
  if (!isJson) say('| defect | seeds until found | how it shows |\n| --- | --- | --- |')
  const reports = await lookForDefects({ ...wish, onEnd: (report) => !isJson && say(rowOf(report, wish.seedsMax)) })
  const found = reports.filter(({ seeds }) => seeds !== null)
  process.exitCode = found.length === reports.length ? 0 : 1
  if (isJson) return say(JSON.stringify({ seeds_max: wish.seedsMax, hours: wish.hours, defects: reports }))
  const figures = {
    defects: reports.length,
    found: found.length,
    seeds_until_found_max: Math.max(0, ...found.map(({ seeds }) => seeds!)),
  }
  for (const [figure, value] of Object.entries(figures))
    say(JSON.stringify({ figure: `simulate.defects.${figure}`, value, unit: '' }))
}

function rowOf({ defect, seeds, shown }: DefectReport, seedsMax: number): string {
  return `| ${defect} | ${seeds ?? `not in ${seedsMax}`} | ${shown.replaceAll('|', '\\|').replace(/\s+/g, ' ').slice(0, 120)} |`
}
