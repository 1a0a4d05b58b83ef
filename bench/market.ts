import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createClient, logIn } from '@orbyte/sdk'
import { repository } from '../scripts/stamps.mjs'
import type { MarketProcess } from './market-process.ts'
import type { Programs } from './programs.ts'
import { type Remote, startRemote } from './remote.ts'

/** A market in a process of its own, on a file of its own. */
export type BenchMarket = {
  readonly process: Remote<MarketProcess>
  readonly url: string
  /** API keys of this many renters who have money. */
  renters(count: number): Promise<string[]>
  /** Agent tokens of this many providers. */
  providers(count: number): Promise<string[]>
  /** `kill -9`, then the same file again. */
  restart(): Promise<void>
  /** Checks the ledger, and removes everything. */
  close(): Promise<void>
}

export type MarketOptions = { programs: Programs; folder?: string; nodeOptions?: readonly string[] }

export async function startBenchMarket({
  programs,
  folder = tmpdir(),
  nodeOptions = [],
}: MarketOptions): Promise<BenchMarket> {
  const own = await mkdtemp(join(folder, 'orbyte-bench-'))
  const start = async (port: number) => {
    const process = startRemote<MarketProcess>(programs.path('market-process'), ['--expose-gc', ...nodeOptions])
    const modelsPath = join(repository, 'models')
    const { url } = await process.ask('start', { databasePath: join(own, 'orbyte.db'), port, modelsPath })
    return { process, url }
  }
  let { process, url } = await start(0)
  let people = 0

  async function newUser() {
    const client = createClient({ url })
    const account = { email: `person-${++people}@example.org`, password: 'a password for benches' }
    await client.auth.register(account)
    await logIn(client, account)
    return client
  }

  return {
    get process() {
      return process
    },
    get url() {
      return url
    },
    async renters(count) {
      const keys: string[] = []
      for (let made = 0; made < count; made++) {
        const client = await newUser()
        await client.wallet.deposit({ amount: '1000000' })
        keys.push((await client.apiKeys.create({ name: 'bench' })).key)
      }
      return keys
    },
    async providers(count) {
      const tokens: string[] = []
      for (let made = 0; made < count; made++)
        tokens.push((await (await newUser()).agentTokens.create({ name: 'bench' })).token)
      return tokens
    },
    async restart() {
      await process.kill()
      ;({ process, url } = await start(Number(new URL(url).port)))
    },
    async close() {
      const problems = await process.ask('verify')
      await process.end()
      await rm(own, { recursive: true, force: true })
      if (problems.length > 0) throw new Error(`the ledger does not add up: ${problems.join('; ')}`)
    },
  }
}
