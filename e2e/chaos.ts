import { rm } from 'node:fs/promises'
import { parseArgs } from 'node:util'
import { runChaos } from './chaos-run.ts'

// npm run chaos -- --seconds 120 --seed 7
// The real market and real agents under kill -9, SIGSTOP and a bad network; then their promises are checked on the file.

const { values } = parseArgs({
  options: {
    seconds: { type: 'string', default: '120' },
    seed: { type: 'string', default: String(Date.now() % 1_000_000) },
    agents: { type: 'string', default: '4' },
    'time-scale': { type: 'string', default: '0.05' },
    keep: { type: 'boolean', default: false },
  },
})
const options = { seed: number('seed'), seconds: number('seconds'), agents: number('agents') }
const timeScale = number('time-scale')
const startedMs = Date.now()
const say = (text: string) => void process.stdout.write(`${text}\n`)
const onProgress = (sentence: string) =>
  say(`${((Date.now() - startedMs) / 1_000).toFixed(1).padStart(6)} s  ${sentence}`)

say(
  `seed ${options.seed}: npm run chaos -- --seconds ${options.seconds} --seed ${options.seed} --agents ${options.agents} --time-scale ${timeScale}`,
)
const report = await runChaos({ ...options, timeScale, onProgress })
const { kills, restarts, stops, cuts, submissions, taskEnds, attemptEnds, violations, folder } = report
const table = (counts: Record<string, number>) =>
  Object.entries(counts).map(([how, count]) => `  ${String(count).padStart(6)}  ${how}`)
say(
  [
    `\nkill -9 ${kills}, restarts ${restarts}, SIGSTOP ${stops}, network faults ${cuts}`,
    `${submissions.length} tasks were asked for. How they ended:`,
    ...table(taskEnds),
    'How attempts ended that had been accepted:',
    ...table(attemptEnds),
    `${violations.length} broken promises`,
    ...violations.map((sentence) => `  ${sentence}`),
  ].join('\n'),
)
if (values.keep || violations.length > 0) say(`The database and the agents' folders: ${folder}`)
else await rm(folder, { recursive: true })
const lost = ['lost (agent_lost)', 'failed (agent_restarted)', 'lost (agent_restarted)', 'failed (deadline_passed)']
const figures = {
  ...{ kills, restarts, stops, cuts, tasks: submissions.length },
  lost_attempts: lost.reduce((sum, how) => sum + (attemptEnds[how] ?? 0), 0),
  violations: violations.length,
}
say(JSON.stringify({ figure: 'chaos.seconds', value: Math.round((Date.now() - startedMs) / 1_000), unit: 's' }))
for (const [name, value] of Object.entries(figures)) say(JSON.stringify({ figure: `chaos.${name}`, value, unit: '' }))
process.exitCode = violations.length === 0 ? 0 : 1

function number(name: 'seed' | 'seconds' | 'agents' | 'time-scale'): number {
  const value = Number(values[name])
  if (value > 0) return value
  console.error(`--${name}: give a number above 0, not "${values[name]}"`)
  process.exit(2)
}
