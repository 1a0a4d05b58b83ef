import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { DatabaseSync } from '@photostructure/sqlite'
import type { Client } from '@orbyte/sdk'
import { defaultTiming } from '@orbyte/server/config.ts'
import { seededRandom } from '../simulation/seeded-random.ts'
import { type FaultCounts, makeTrouble } from './chaos-faults.ts'
import { brokenPromises } from './chaos-promises.ts'
import type { Renter, Submission } from './chaos-renter.ts'
import { createWorld, keptResults, type World } from './chaos-world.ts'
import { killAll } from './processes.ts'

export type ChaosOptions = {
  seed: number
  seconds: number
  /** Multiplies the times of market and agents, so that several deaths fit. */
  timeScale: number
  agents: number
  onProgress?: (sentence: string) => void
}
export type ChaosReport = FaultCounts & {
  violations: string[]
  submissions: readonly Submission[]
  /** How many tasks, and how many attempts that had been accepted, ended how. */
  taskEnds: Record<string, number>
  attemptEnds: Record<string, number>
  /** Of the run: the database, and each agent's. It is left to whoever asked for the run. */
  folder: string
}

/**
 * The real market and real agents, as processes, under random faults for a while; then all is let recover, stopped in order, and
 * the database file is held against what was promised.
 */
export async function runChaos(options: ChaosOptions): Promise<ChaosReport> {
  const folder = await mkdtemp(join(tmpdir(), 'orbyte-chaos-'))
  const violations: string[] = []
  try {
    const world = await createWorld({ ...options, folder, onTrouble: (text) => violations.push(text) })
    const counts = await live(world, options, violations)
    const path = join(folder, 'orbyte.db')
    const submissions = world.renters.flatMap((renter) => renter.submissions)
    violations.push(...(await brokenPromises(path, submissions)), ...(await keptResults(world)))
    return { ...counts, ...ends(path), submissions, violations, folder }
  } catch (error) {
    await rm(folder, { recursive: true, force: true })
    throw error
  } finally {
    await killAll()
  }
}

async function live(world: World, options: ChaosOptions, violations: string[]): Promise<FaultCounts> {
  const { market, agents, proxies, renters } = world
  const { seed, seconds, timeScale, onProgress = () => {} } = options
  const random = seededRandom(seed, 'trouble')
  // GPUs that have failed cool down for so long at most; then something has to happen again.
  const quietMsMax = defaultTiming.coolDownMaxMs * timeScale + 30_000
  const all = (work: (renter: Renter) => Promise<unknown>) => Promise.all(renters.map(work))

  onProgress(`${seconds} s of trouble begin.`)
  const untilMs = Date.now() + seconds * 1_000
  const lives = all((renter) => renter.live(() => Date.now() >= untilMs))
  const counts = await makeTrouble(
    { market, agents, proxies, random, deadMs: defaultTiming.deadMs * timeScale },
    untilMs,
  )
  onProgress('No more trouble: everything is let recover.')
  if (!(await within(60_000, lives))) violations.push('not every call was answered')
  await all(async ({ client }) => violations.push(...(await standstill(client, quietMsMax))))
  const closing = all((renter) => renter.payAll().then(() => renter.heardAll()))
  if (!(await within(60_000, closing))) violations.push('not everything could be paid and heard')
  onProgress('Everything has ended: agents and market are stopped in order.')
  await Promise.all(agents.map((agent) => agent.end()))
  await market.end()
  for (const proxy of proxies) await proxy.close()
  return counts
}

async function within(limitMs: number, work: Promise<unknown>): Promise<boolean> {
  const limit = new AbortController()
  const late = sleep(limitMs, false, limit)
  late.catch(() => {})
  const isDone = await Promise.race([work.then(() => true), late])
  limit.abort()
  return isDone
}

/** Resolves when all tasks of a renter have ended, or, with a sentence for each that has not, when none does any more. */
async function standstill(client: Client, quietMsMax: number): Promise<string[]> {
  let fewest = Infinity
  let sinceMs = Date.now()
  for (;;) {
    const open = await openTasks(client).catch(() => null)
    if (open?.length === 0) return []
    if (open !== null && open.length < fewest) {
      fewest = open.length
      sinceMs = Date.now()
    }
    if (Date.now() - sinceMs > quietMsMax) return open ?? ['the market does not answer any more']
    await sleep(200)
  }
}

async function openTasks(client: Client): Promise<string[]> {
  const lists = await Promise.all(
    (['pending', 'running'] as const).map((status) => client.tasks.list({ status, limit: 200 })),
  )
  return lists.flatMap(({ items }) => items).map(({ id, status }) => `${id} is ${status}, and nothing ends any more`)
}

function ends(path: string): Pick<ChaosReport, 'taskEnds' | 'attemptEnds'> {
  const database = new DatabaseSync(path, { readOnly: true })
  const count = (rows: string) => {
    const sql = `SELECT status || ' (' || end_code || ')' AS how, count(*) AS count FROM ${rows} GROUP BY how ORDER BY count DESC`
    const counts = database.prepare(sql).all() as { how: string; count: number }[]
    return Object.fromEntries(counts.map(({ how, count }) => [how, count]))
  }
  const found = { taskEnds: count('tasks'), attemptEnds: count('attempts WHERE accepted_at IS NOT NULL') }
  database.close()
  return found
}
