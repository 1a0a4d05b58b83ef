import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Agent } from '@orbyte/agent'
import { loadAgentOptions, processEnvironment } from '@orbyte/agent/agent-config.ts'
import { startSystemAgent } from '@orbyte/agent/system-agent.ts'
import { signOperatorToken } from '@orbyte/protocol'
import { type Client, createClient, logIn } from '@orbyte/sdk'
import { type Server, startServer } from '@orbyte/server'
import { type Config, loadConfig } from '@orbyte/server/config.ts'
import { verifyLedger } from '@orbyte/server/ledger/ledger-verify.ts'

export type Person = { name: string; email: string; password: string; client: Client }
export type NetworkOptions = {
  /** What each agent emulates, like "RTX 4090:24x2". Default: one agent with one GPU. */
  machines?: readonly string[]
  /** Each agent after the first has an owner of its own. Default: Bob owns them all. */
  hasOwners?: boolean
  port?: number
  /** Default: in memory. */
  databasePath?: string
  /** Changes to the server's configuration. */
  config?: Partial<Config>
  logLevel?: 'debug' | 'info' | 'warn' | 'silent'
}

export type Network = {
  readonly url: string
  readonly server: Server
  /** Owns the GPUs. */
  readonly bob: Person
  /** Has work, and 1,000 ORB. */
  readonly alice: Person
  /** Runs the market. */
  readonly carol: Person
  readonly agents: readonly Agent[]
  /** Resolves when this many GPUs are free to take a task. */
  gpusAvailable(count: number): Promise<void>
  /** Stops everything, after checking that the ledger adds up. */
  close(): Promise<void>
}

/**
 * The whole of Orbyte in one process: a real server, real agents on emulated GPUs (their text, images and embeddings are
 * made by the real models, on this machine's CPU), and three people. `npm run dev` runs it, tests are built on it.
 */
export async function startNetwork(options: NetworkOptions = {}): Promise<Network> {
  const { machines = ['RTX 4090:24'], logLevel = 'silent' } = options
  const folder = await mkdtemp(join(tmpdir(), 'orbyte-network-'))
  const defaults = loadConfig({
    DATABASE_URL: options.databasePath ?? ':memory:',
    PORT: String(options.port ?? 0),
    ALLOW_EMULATED_GPUS: 'true',
    LOG_LEVEL: logLevel,
  })
  // Many people behind one address: tests and development are not throttled.
  const limits = { ...defaults.limits, callsPerMinuteMax: 0, callLimitFactor: 1_000 }
  const config = { ...defaults, limits, ...options.config }
  const server = await startServer(config)
  const { url } = server
  const [bob, alice, carol] = [await newPerson(url, 'bob'), await newPerson(url, 'alice'), await newAdmin(url, config)]
  await alice.client.wallet.deposit({ amount: '1000' })
  const agents = await Promise.all(
    machines.map(async (machine, index) => {
      const owner = options.hasOwners && index > 0 ? await newPerson(url, `owner-${index + 1}`) : bob
      const { token } = await owner.client.agentTokens.create({ name: 'development' })
      return startMachine({ url, token, machine, logLevel, folder: join(folder, `agent-${index + 1}`) })
    }),
  )
  return {
    url,
    server,
    bob,
    alice,
    carol,
    agents,
    gpusAvailable: (count) =>
      until(
        async () => (await alice.client.gpus.list({ available: true, limit: 200 })).items.length >= count,
        'GPUs to connect',
      ),
    async close() {
      const { problems } = await server.context.database.read(verifyLedger)
      for (const agent of agents) agent.stop('now')
      await Promise.all(agents.map(({ ended }) => ended))
      await server.close()
      await rm(folder, { recursive: true, force: true })
      if (problems.length > 0) throw new Error(`the ledger does not add up: ${problems.join('; ')}`)
    },
  }
}

type Machine = { url: string; token: string; machine: string; folder: string; logLevel: string }

function startMachine({ url, token, machine, folder, logLevel }: Machine): Promise<Agent> {
  const flags = { server: url, token, data: folder, emulate: machine, 'log-level': logLevel }
  const written = Object.entries(flags).flatMap(([flag, value]) => [`--${flag}`, value])
  return startSystemAgent({
    options: loadAgentOptions([...written, '--allow-fake'], {}),
    environment: processEnvironment(),
  })
}

export const demoPassword = 'a password for development'

async function newPerson(url: string, name: string): Promise<Person> {
  const client = createClient({ url })
  const email = `${name}@example.org`
  await client.auth.register({ email, password: demoPassword, name })
  await logIn(client, { email, password: demoPassword })
  return { name, email, password: demoPassword, client }
}

async function newAdmin(url: string, config: Config): Promise<Person> {
  const operator = createClient({ url, token: await signOperatorToken(config.secretKey, Date.now()) })
  const person = { name: 'carol', email: 'carol@example.org', password: demoPassword }
  await operator.admin.createAdmin({ email: person.email, password: person.password })
  const client = createClient({ url })
  await logIn(client, person)
  return { ...person, client }
}

/** Asks again and again until it holds. */
export async function until(holds: () => Promise<boolean>, what: string, waitMsMax = 60_000): Promise<void> {
  const lateMs = Date.now() + waitMsMax
  while (!(await holds())) {
    if (Date.now() > lateMs) throw new Error(`waited too long for ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}
