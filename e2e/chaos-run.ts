import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Client, createClient, logIn } from '@orbyte/sdk'
import { type FaultCounts, makeTrouble } from './chaos-faults.ts'
import { buildProgram, createVictim, type Victim } from './chaos-processes.ts'
import { brokenPromises } from './chaos-promises.ts'
import { type Proxy, startProxy } from './chaos-proxy.ts'
import { type SeededRandom, seededRandom, sleep } from './chaos-random.ts'
import { createRenter, type Renter, type Submission } from './chaos-renter.ts'
import { freePort, killAll } from './processes.ts'

export type ChaosOptions = {
  seed: number
  seconds: number
  /** Multiplies the times of market and agents, so that several deaths fit. */
  timeScale: number
  agents: number
  onProgress?: (sentence: string) => void
  /** Leaves the folder of the run where it is. */
  keep?: boolean
}
export type ChaosReport = FaultCounts & {
  tasks: number
  /** Tasks by how they ended. */
  ends: Record<string, number>
  attempts: number
  violations: string[]
  submissions: readonly Submission[]
  folder: string
}

type World = { market: Victim; agents: Victim[]; proxies: Proxy[]; renters: Renter[]; folder: string }

const gpusPerAgent = 2
const deadMsUnscaled = 90_000
/** After the last fault: how long nothing may happen while a task still waits or runs. GPUs that have failed are cooling down. */
const standstillMsMax = 60_000

/**
 * The real market and real agents, as processes, under random faults for a while; then all is let recover, stopped in order, and
 * the database file is held against what was promised.
 */
export async function runChaos(options: ChaosOptions): Promise<ChaosReport> {
  const folder = await mkdtemp(join(tmpdir(), 'orbyte-chaos-'))
  const { program, remove } = await buildProgram()
  const violations: string[] = []
  try {
    const world = await createWorld(options, { folder, program, onTrouble: (text) => violations.push(text) })
    const counts = await live(world, options, violations)
    const path = join(folder, 'orbyte.db')
    const submissions = world.renters.flatMap((renter) => renter.submissions)
    violations.push(...(await brokenPromises(path, submissions)), ...(await keptResults(world)))
    return { ...counts, ...(await summary(path)), tasks: submissions.length, submissions, violations, folder }
  } finally {
    await killAll()
    await remove()
    if (options.keep !== true) await rm(folder, { recursive: true, force: true })
  }
}

async function live(world: World, options: ChaosOptions, violations: string[]): Promise<FaultCounts> {
  const { market, agents, proxies, renters } = world
  const { onProgress = () => {}, timeScale } = options
  const untilMs = Date.now() + options.seconds * 1_000
  onProgress(`${options.seconds} s of trouble begin.`)
  const random = seededRandom(options.seed).fork('trouble')
  const lives = renters.map((renter) => renter.live(untilMs))
  const counts = await makeTrouble({ market, agents, proxies, random, deadMs: deadMsUnscaled * timeScale }, untilMs)
  onProgress('No more trouble: everything is let recover.')
  await within(standstillMsMax, Promise.all(lives), () => violations.push('not every call is answered'))
  for (const renter of renters) violations.push(...(await standstill(renter)))
  onProgress('Everything has ended: agents and market are stopped in order.')
  await within(standstillMsMax, Promise.all(renters.map((renter) => renter.payAll())), () =>
    violations.push('not everything could be paid'),
  )
  await Promise.all(agents.map((agent) => agent.end()))
  await market.end()
  for (const proxy of proxies) await proxy.close()
  return counts
}

async function within(limitMs: number, done: Promise<unknown>, late: () => void): Promise<void> {
  let timer: NodeJS.Timeout | undefined
  const limit = new Promise<void>((resolve) => {
    timer = setTimeout(() => {
      late()
      resolve()
    }, limitMs)
  })
  await Promise.race([done, limit])
  clearTimeout(timer)
}

/** Resolves when all tasks of a renter have ended, or when none does any more. */
async function standstill({ client }: Renter): Promise<string[]> {
  let fewest = Infinity
  let sinceMs = Date.now()
  for (;;) {
    const waiting = await openTasks(client).catch(() => null)
    if (waiting?.length === 0) return []
    if (waiting !== null && waiting.length < fewest) {
      fewest = waiting.length
      sinceMs = Date.now()
    }
    if (Date.now() - sinceMs > standstillMsMax) return (waiting ?? ['the market does not answer']).slice(0, 5)
    await sleep(200)
  }
}

/** A sentence for each. */
async function openTasks(client: Client): Promise<string[]> {
  const lists = await Promise.all(
    (['pending', 'running'] as const).map((status) => client.tasks.list({ status, limit: 200 })),
  )
  return lists.flatMap(({ items }) => items).map(({ id, status }) => `${id} is ${status}, and nothing ends any more`)
}

type Place = { folder: string; program: readonly string[]; onTrouble: (sentence: string) => void }

async function createWorld(options: ChaosOptions, { folder, program, onTrouble }: Place): Promise<World> {
  const port = await freePort()
  const env = { TIME_SCALE: String(options.timeScale), LOG_LEVEL: 'warn' }
  const market = createVictim({
    ...{ name: 'the market', cwd: folder, program, onTrouble, upWhen: /a market at/ },
    words: ['serve', '--port', String(port), '--database', join(folder, 'orbyte.db')],
    env: { ...env, ALLOW_EMULATED_GPUS: 'true', RATE_LIMIT_PER_MINUTE: '0', FEE_PERCENT: '2.5' },
  })
  await market.start()
  const provider = await newPerson(port, 'provider')
  const renterProxy = await startProxy(port)
  const random = seededRandom(options.seed)
  const renters = await Promise.all(
    ['alice', 'anna'].map((name) => newRenter(name, { port, renterProxy, random, onTrouble })),
  )
  const proxies = [renterProxy]
  const agents: Victim[] = []
  for (let number = 1; number <= options.agents; number++) {
    const proxy = await startProxy(port)
    const name = `agent-${number}`
    const { token } = await provider.agentTokens.create({ name })
    const flags = { server: `http://127.0.0.1:${proxy.port}`, token, name, data: join(folder, name), price: '1' }
    const words = Object.entries(flags).flatMap(([flag, value]) => [`--${flag}`, value])
    const emulated = ['--emulate', `RTX 4090:24x${gpusPerAgent}`, '--allow-fake']
    const agent = createVictim({
      ...{ name, cwd: folder, program, env, onTrouble, upWhen: null },
      words: ['agent', 'start', ...words, ...emulated],
    })
    await agent.start()
    proxies.push(proxy)
    agents.push(agent)
  }
  await connected(provider, options.agents * gpusPerAgent)
  return { market, agents, proxies, renters, folder }
}

async function connected(provider: Client, gpus: number) {
  const untilMs = Date.now() + 60_000
  const free = async () =>
    (await provider.gpus.mine({ limit: 200 })).items.filter(({ status }) => status === 'available')
  while ((await free()).length < gpus) {
    if (Date.now() > untilMs) throw new Error('the agents did not connect')
    await sleep(100)
  }
}

type RenterPlace = { port: number; renterProxy: Proxy; random: SeededRandom; onTrouble: (sentence: string) => void }

async function newRenter(name: string, { port, renterProxy, random, onTrouble }: RenterPlace): Promise<Renter> {
  const direct = await newPerson(port, name)
  await direct.wallet.deposit({ amount: '1000' })
  // One try a call: the renter itself goes on asking.
  const client = createClient({
    url: `http://127.0.0.1:${renterProxy.port}`,
    retry: { retriesMax: 0 },
    replyMsMax: 5_000,
  })
  await logIn(client, accountOf(name))
  return createRenter({ name, client, random: random.fork(name), pauseMs: 600, onTrouble })
}

const accountOf = (name: string) => ({ email: `${name}@example.org`, password: 'a password for chaos' })

async function newPerson(port: number, name: string): Promise<Client> {
  const client = createClient({ url: `http://127.0.0.1:${port}` })
  await client.auth.register(accountOf(name))
  await logIn(client, accountOf(name))
  return client
}

/** An agent that has ended in order keeps nothing that the market has not acknowledged. */
async function keptResults({ agents, folder }: World): Promise<string[]> {
  const kept = await Promise.all(
    agents.map(async ({ name }) => {
      const files = await readdir(join(folder, name, 'results')).catch(() => [])
      return files.map((file) => `${name} still keeps ${file}, which the market never acknowledged`)
    }),
  )
  return kept.flat()
}

async function summary(path: string): Promise<Pick<ChaosReport, 'ends' | 'attempts'>> {
  const { DatabaseSync } = await import('@photostructure/sqlite')
  const database = new DatabaseSync(path, { readOnly: true })
  const ends = database
    .prepare('SELECT status, end_code, count(*) AS count FROM tasks GROUP BY 1, 2 ORDER BY 3 DESC')
    .all()
  const { count } = database.prepare('SELECT count(*) AS count FROM attempts WHERE accepted_at IS NOT NULL').get() as {
    count: number
  }
  database.close()
  return {
    ends: Object.fromEntries(
      (ends as { status: string; end_code: string; count: number }[]).map((row) => [
        `${row.status} (${row.end_code})`,
        row.count,
      ]),
    ),
    attempts: count,
  }
}
