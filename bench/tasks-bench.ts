import { createClient } from '@orbyte/sdk'
import { type Bare, startBare } from './bare.ts'
import { type Figure, median, say, table } from './figures.ts'
import type { Latencies, LoadProcess } from './load-process.ts'
import { machineNow } from './machine.ts'
import { type BenchMarket, startBenchMarket } from './market.ts'
import { countOf } from './options.ts'
import { startPeers } from './peers.ts'
import { buildPrograms } from './programs.ts'
import { type Remote, startRemote } from './remote.ts'

type Subject = { market: BenchMarket; load: Remote<LoadProcess>; keys: string[] }
type Way = { name: string; connections: number; batch: number; tasks: number }
type Run = { perS: number; cpuUs: number | null }

const warmUpTasks = 4_000
const idleTasks = 400
const halfLoadSeconds = 10

export async function runTasks(values: Record<string, string>): Promise<Figure[]> {
  const { agents, rounds, tasks, renters, providers } = countsOf(values)
  const few: Way = { name: 'one at a time, 64 connections', connections: 64, batch: 1, tasks }
  const many: Way = { name: 'one at a time, 200 connections', connections: 200, batch: 1, tasks }
  const batches: Way = { name: 'batches of 100, 8 connections', connections: 8, batch: 100, tasks: 3 * tasks }
  const programs = await buildPrograms(['market-process', 'load-process', 'bare-process'])
  const market = await startBenchMarket({ programs, folder: values['folder'] })
  const load = startRemote<LoadProcess>(programs.path('load-process'))
  const peers = values['peers'] === 'none' ? [] : await startPeers(values['folder'])
  let bare: Bare | null = null
  try {
    const keys = await market.renters(renters)
    const tokens = await market.providers(providers)
    await load.ask('connect', { url: market.url, tokens, agentsPerToken: agents / providers, firstNumber: 0 })
    const subject = { market, load, keys }
    await submit(subject, { ...few, tasks: warmUpTasks })
    bare = await startBare(programs, { reply: await replyTo(market, keys[0]!), agents })
    await bare.run({ ...few, tasks: warmUpTasks })

    say(`Before: ${await machineNow(values['folder'])}`)
    const runs = new Map<string, Run[]>()
    const note = (name: string, run: Run) => runs.set(name, [...(runs.get(name) ?? []), run])
    for (let round = 0; round < rounds; round++) {
      for (const way of [few, many, batches]) note(way.name, await submit(subject, way))
      for (const way of [few, batches]) note(alone(way), { perS: await bare.run(way), cpuUs: null })
      for (const peer of peers) note(peer.name, { perS: await peer.run(), cpuUs: null })
    }
    say(table([['', 'median a second', 'runs', 'market’s CPU, µs each'], ...[...runs].map(rowOf)]))

    const perS = (name: string) => median(runs.get(name)!.map((run) => run.perS))
    const rate = perS(few.name) / 2
    const idle = await load.ask('oneByOne', { url: market.url, key: keys[0]!, tasks: idleTasks })
    const half = await load.ask('atRate', {
      url: market.url,
      keys,
      connections: 256,
      perS: rate,
      seconds: halfLoadSeconds,
    })
    say()
    say(
      table([['ms', 'p50', 'p99'], ...latencyRows('idle', idle), ...latencyRows(`${Math.round(rate)} a second`, half)]),
    )
    say(`\nAfter: ${await machineNow(values['folder'])}`)
    if (values['profile']) say(`\n${await profile(subject, few)}`)
    return [
      { figure: 'tasks.single_per_s', value: perS(few.name), unit: '1/s' },
      { figure: 'tasks.batch_per_s', value: perS(batches.name), unit: '1/s' },
      { figure: 'tasks.idle_ms_p50', value: idle.start.p50, unit: 'ms' },
      { figure: 'tasks.idle_ms_p99', value: idle.start.p99, unit: 'ms' },
      { figure: 'tasks.half_load_ms_p99', value: half.start.p99, unit: 'ms' },
      { figure: 'tasks.ratio_messages_single', value: perS(few.name) / perS(alone(few)), unit: '×' },
      { figure: 'tasks.ratio_messages_batch', value: perS(batches.name) / perS(alone(batches)), unit: '×' },
      ...peers.map(({ name, figure }) => ({ figure, value: perS(many.name) / perS(name), unit: '×' })),
    ]
  } finally {
    for (const peer of peers) await peer.stop()
    await bare?.stop()
    await load.end()
    await market.close()
    await programs.remove()
  }
}

const alone = ({ name }: Way) => `the messages alone, ${name}`

/** What the market says to a submission. */
async function replyTo({ url }: BenchMarket, token: string): Promise<string> {
  return JSON.stringify(await createClient({ url, token }).tasks.create({ task_type: 'other', input_data: {} }))
}

/** Counts what the ledger has paid, and nothing else. */
async function submit({ market, load, keys }: Subject, { connections, batch, tasks }: Way): Promise<Run> {
  const { process, url } = market
  const before = { ...(await process.ask('usage', { collectGarbage: false })), settled: await process.ask('settled') }
  const { seconds } = await load.ask('submit', { url, keys, connections, tasks, batch })
  const after = { ...(await process.ask('usage', { collectGarbage: false })), settled: await process.ask('settled') }
  const settled = after.settled - before.settled
  if (settled < tasks) throw new Error(`of ${tasks} tasks the ledger has paid for ${settled}`)
  return { perS: settled / seconds, cpuUs: (after.cpuUs - before.cpuUs) / settled }
}

async function profile(subject: Subject, way: Way): Promise<string> {
  await subject.market.process.ask('startProfile')
  await submit(subject, way)
  return subject.market.process.ask('stopProfile')
}

function rowOf([name, runs]: [string, Run[]]): string[] {
  const cpu = runs.flatMap(({ cpuUs }) => cpuUs ?? [])
  const rates = runs.map(({ perS }) => perS)
  return [
    name,
    median(rates).toFixed(0),
    rates.map((rate) => rate.toFixed(0)).join(' '),
    cpu.length === 0 ? '' : median(cpu).toFixed(0),
  ]
}

function latencyRows(name: string, { start, settled }: Latencies): string[][] {
  return [
    [`${name}: sent → arrived at an agent`, start.p50.toFixed(2), start.p99.toFixed(2)],
    [`${name}: sent → settled`, settled.p50.toFixed(2), settled.p99.toFixed(2)],
  ]
}

function countsOf(values: Record<string, string>) {
  const [agents, providers] = [countOf(values, 'agents'), countOf(values, 'providers')]
  if (agents % providers !== 0) throw new Error('--agents has to be a multiple of --providers')
  const [rounds, tasks, renters] = [countOf(values, 'rounds'), countOf(values, 'tasks'), countOf(values, 'renters')]
  return { agents, providers, rounds, tasks, renters }
}
