import { setTimeout as sleep } from 'node:timers/promises'
import { type Figure, median, say, table } from './figures.ts'
import type { LoadProcess } from './load-process.ts'
import { machineNow } from './machine.ts'
import { startBenchMarket } from './market.ts'
import type { Usage } from './market-process.ts'
import { countOf } from './options.ts'
import { buildPrograms, type Programs } from './programs.ts'
import { startRemote } from './remote.ts'

type Crowd = { agents: number; providers: number; tasks: number; folder: string | undefined }
/** What one market with all its agents came to. */
type Run = {
  connectS: number
  /** More of the system's memory for each agent: as it is, and once all garbage is collected; and more that is alive in the heap. */
  residentNowKb: number
  residentKb: number
  usedKb: number
  /** Of one core, for heartbeats alone. */
  cpuPercent: number
  dispatchMsP50: number
  dispatchMsP99: number
  reconnectS: number
}

/** Several heartbeats of each agent, and time for the market to forget how they came. */
const settleSeconds = 20
const watchSeconds = 15

export async function runAgents(values: Record<string, string>): Promise<Figure[]> {
  const [agents, providers] = [countOf(values, 'agents'), countOf(values, 'providers')]
  if (agents % providers !== 0) throw new Error('--agents has to be a multiple of --providers')
  const crowd: Crowd = { agents, providers, tasks: countOf(values, 'tasks'), folder: values['folder'] }
  const programs = await buildPrograms(['market-process', 'load-process'])
  const runs: Run[] = []
  say(`Before: ${await machineNow(crowd.folder)}`)
  try {
    for (let round = countOf(values, 'rounds'); round > 0; round--) runs.push(await runOnce(programs, crowd))
  } finally {
    await programs.remove()
  }
  say(`After: ${await machineNow(crowd.folder)}`)
  const of = (measure: keyof Run) => median(runs.map((run) => run[measure]))
  const row = (name: string, measure: keyof Run) => [
    name,
    ...runs.map((run) => run[measure].toFixed(2)),
    of(measure).toFixed(2),
  ]
  say(
    table([
      [`${agents} agents`, ...runs.map((_, index) => `run ${index + 1}`), 'median'],
      row('s until all are let in', 'connectS'),
      row('KB of the system’s memory, each', 'residentNowKb'),
      row('the same once garbage is collected', 'residentKb'),
      row('KB of the heap, each', 'usedKb'),
      row('% of a core for heartbeats', 'cpuPercent'),
      row('ms from a submission to its agent, p50', 'dispatchMsP50'),
      row('ms from a submission to its agent, p99', 'dispatchMsP99'),
      row('s until all are back after kill -9', 'reconnectS'),
    ]),
  )
  return [
    { figure: 'agents.kb_each', value: of('residentKb'), unit: 'KB' },
    { figure: 'agents.dispatch_ms_p99', value: of('dispatchMsP99'), unit: 'ms' },
    { figure: 'agents.reconnect_s', value: of('reconnectS'), unit: 's' },
  ]
}

async function runOnce(programs: Programs, { agents, providers, tasks, folder }: Crowd): Promise<Run> {
  const market = await startBenchMarket({ programs, folder })
  const load = startRemote<LoadProcess>(programs.path('load-process'))
  try {
    const [key] = await market.renters(1)
    const tokens = await market.providers(providers)
    const idle = await market.process.ask('usage', { collectGarbage: true })
    const agentsPerToken = agents / providers
    const connected = await load.ask('connect', { url: market.url, tokens, agentsPerToken, firstNumber: 0 })
    await sleep(settleSeconds * 1_000)
    const now = await market.process.ask('usage', { collectGarbage: false })
    const full = await market.process.ask('usage', { collectGarbage: true })
    await sleep(watchSeconds * 1_000)
    const later = await market.process.ask('usage', { collectGarbage: false })
    const { start } = await load.ask('oneByOne', { url: market.url, key: key!, tasks })
    const back = load.ask('reconnected')
    await market.restart()
    const { seconds: reconnectS } = await back
    const residentKb = ({ residentBytes }: Usage) => (residentBytes - idle.residentBytes) / 1_024 / agents
    return {
      connectS: connected.seconds,
      residentNowKb: residentKb(now),
      residentKb: residentKb(full),
      usedKb: (full.usedBytes - idle.usedBytes) / 1_024 / agents,
      cpuPercent: (later.cpuUs - full.cpuUs) / 10_000 / watchSeconds,
      dispatchMsP50: start.p50,
      dispatchMsP99: start.p99,
      reconnectS,
    }
  } finally {
    await load.end()
    await market.close()
  }
}
