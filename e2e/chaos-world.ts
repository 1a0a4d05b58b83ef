import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { type Client, createClient } from '@orbyte/sdk'
import { until } from '../dev/network.ts'
import { seededRandom } from '../simulation/seeded-random.ts'
import { createVictim, type Victim } from './chaos-processes.ts'
import { type Proxy, startProxy } from './chaos-proxy.ts'
import { createRenter, type Renter } from './chaos-renter.ts'
import { freePort, newUser } from './processes.ts'

/** A market, agents with emulated GPUs, and renters, each behind a network of its own that can be made bad. */
export type World = { market: Victim; agents: Victim[]; renters: Renter[]; proxies: Proxy[]; folder: string }

export type WorldOptions = {
  seed: number
  agents: number
  timeScale: number
  folder: string
  onTrouble: (sentence: string) => void
}

const gpusPerAgent = 4

export async function createWorld(options: WorldOptions): Promise<World> {
  const { folder, onTrouble } = options
  const env = { TIME_SCALE: String(options.timeScale) }
  const port = await freePort()
  const url = `http://127.0.0.1:${port}`
  const market = createVictim({
    ...{ name: 'the market', cwd: folder, onTrouble, upWhen: /a market at/ },
    words: ['serve', '--port', String(port), '--database', join(folder, 'orbyte.db')],
    env: { ...env, ALLOW_EMULATED_GPUS: 'true', RATE_LIMIT_PER_MINUTE: '0', FEE_PERCENT: '2.5' },
  })
  await market.start()
  const provider = await newUser(url, 'provider')
  const proxies: Proxy[] = []
  const newProxy = async () => {
    const proxy = await startProxy(port)
    proxies.push(proxy)
    return `http://127.0.0.1:${proxy.port}`
  }

  const through = await newProxy()
  const renters: Renter[] = []
  for (const name of ['alice', 'anna']) {
    const client = await clientThrough(through, await newUser(url, name))
    const random = seededRandom(options.seed, name)
    renters.push(createRenter({ name, client, random, pauseMs: 500, onTrouble }))
  }

  const agents: Victim[] = []
  for (let number = 1; number <= options.agents; number++) {
    const name = `agent-${number}`
    const { token } = await provider.agentTokens.create({ name })
    const flags = { server: await newProxy(), token, name, data: join(folder, name), price: '1' }
    const words = Object.entries(flags).flatMap(([flag, value]) => [`--${flag}`, value])
    const emulated = ['--emulate', `RTX 4090:24x${gpusPerAgent}`, '--allow-fake']
    const agent = { name, words: ['agent', 'start', ...words, ...emulated], cwd: folder, env, onTrouble, upWhen: null }
    agents.push(createVictim(agent))
  }
  await Promise.all(agents.map((agent) => agent.start()))
  const free = async () => (await provider.gpus.mine({ limit: 200 })).items.filter((gpu) => gpu.status === 'available')
  await until(async () => (await free()).length === options.agents * gpusPerAgent, 'the agents to connect')
  return { market, agents, renters, proxies, folder }
}

/** The same person with some money, on a bad network: one try a call, because the renter itself goes on asking. */
async function clientThrough(url: string, direct: Client): Promise<Client> {
  await direct.wallet.deposit({ amount: '1000' })
  const { key: token } = await direct.apiKeys.create({ name: 'through a bad network' })
  return createClient({ url, token, retry: { retriesMax: 0 }, replyMsMax: 5_000, silenceMsMax: 20_000 })
}

/** An agent that has ended in order keeps nothing that the market has not acknowledged. */
export async function keptResults({ agents, folder }: World): Promise<string[]> {
  const kept = await Promise.all(
    agents.map(async ({ name }) => {
      const files = await readdir(join(folder, name, 'results')).catch(() => [])
      return files.map((file) => `${name} still keeps ${file}, which the market never acknowledged`)
    }),
  )
  return kept.flat()
}
