import { parseArgs } from 'node:util'
import { runChaos } from './chaos-run.ts'
import { killAll } from './processes.ts'

// npm run chaos -- --seconds 120 --seed 7
// The real market and real agents under kill -9, SIGSTOP and a bad network; then their promises are checked on the file.

const { values } = parseArgs({
  options: {
    seconds: { type: 'string', default: '120' },
    seed: { type: 'string', default: String(Date.now() % 1_000_000) },
    agents: { type: 'string', default: '4' },
    'time-scale': { type: 'string', default: '0.1' },
    keep: { type: 'boolean', default: false },
  },
})
const [seconds, seed, agents, timeScale] = [values.seconds, values.seed, values.agents, values['time-scale']].map(
  Number,
)
const startedMs = Date.now()
const say = (text: string) => process.stdout.write(`${text}\n`)
for (const signal of ['SIGINT', 'SIGTERM'] as const)
  process.once(signal, () => {
    void killAll().finally(() => process.exit(130))
  })
say(`seed ${seed}: npm run chaos -- --seconds ${seconds} --seed ${seed} --agents ${agents} --time-scale ${timeScale}`)
const report = await runChaos({
  ...{ seconds: seconds!, seed: seed!, agents: agents!, timeScale: timeScale!, keep: values.keep },
  onProgress: (sentence) => say(`${((Date.now() - startedMs) / 1_000).toFixed(1).padStart(6)} s  ${sentence}`),
})
const { kills, restarts, stops, cuts, tasks, attempts, ends, violations } = report
say(`
kill -9 ${kills}, restarts ${restarts}, SIGSTOP ${stops}, network faults ${cuts}
${tasks} tasks, ${attempts} attempts that were accepted
${Object.entries(ends)
  .map(([end, count]) => `  ${String(count).padStart(6)}  ${end}`)
  .join('\n')}
${violations.length} broken promises
${violations.map((sentence) => `  ${sentence}`).join('\n')}`)
if (values.keep) say(`The database and the agents' folders: ${report.folder}`)
const figures = { violations: violations.length, kills, restarts, stops, cuts, tasks, attempts }
for (const [name, value] of Object.entries(figures)) say(JSON.stringify({ figure: `chaos.${name}`, value, unit: '' }))
say(JSON.stringify({ figure: 'chaos.seconds', value: Math.round((Date.now() - startedMs) / 1_000), unit: 's' }))
process.exitCode = violations.length === 0 ? 0 : 1
