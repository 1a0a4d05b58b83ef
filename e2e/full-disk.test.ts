import { execFileSync } from 'node:child_process'
import { closeSync, openSync, rmSync, writeSync } from 'node:fs'
import { mkdir, mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync, type DatabaseSyncInstance } from '@photostructure/sqlite'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { type Client, createClient, logIn } from '@orbyte/sdk'
import { startServer } from '@orbyte/server'
import { defaultLimits, loadConfig } from '@orbyte/server/config.ts'
import { sqliteDatabase } from '@orbyte/server/db/sqlite-database.ts'
import { until } from '../dev/network.ts'
import { brokenPromises } from './chaos-promises.ts'
import { seededRandom } from './chaos-random.ts'
import { createRenter, type Renter } from './chaos-renter.ts'
import { freePort, killAll, newUser, orbyte, type Process, startMarket } from './processes.ts'

/** Short cool-downs. */
const env = { TIME_SCALE: '0.1' }

let folder: string
let disk: string
let isMounted = false
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'orbyte-full-'))
  disk = join(folder, 'disk')
  await mkdir(disk)
})
afterEach(async () => {
  await killAll()
  if (isMounted) execFileSync('umount', [disk])
  isMounted = false
  await rm(folder, { recursive: true, force: true })
})

/** A disk of 24 MB, where this user may mount one. */
function mountSmallDisk(): boolean {
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=24m', 'tmpfs', disk], { stdio: 'ignore' })
    isMounted = true
  } catch {
    isMounted = false
  }
  return isMounted
}

const filler = () => join(disk, 'filler')

/** Takes all of the room that there is, to the last byte. */
function fillDisk() {
  const file = openSync(filler(), 'a')
  for (const size of [1_000_000, 4_096, 1])
    for (let isRoom = true; isRoom;)
      try {
        isRoom = writeSync(file, Buffer.alloc(size, 1)) > 0
      } catch {
        isRoom = false
      }
  closeSync(file)
}

test('a disk that fills up under load: clear refusals, nothing lost, and the market goes on when there is room, also after kill -9', async (context) => {
  context.skip(!mountSmallDisk(), 'no disk can be mounted here')
  const port = await freePort()
  const url = `http://127.0.0.1:${port}`
  const market = await startMarket({ folder: disk, port, env })
  const { renter, agent, trouble } = await populate(url)
  const submitting = renter.live(Date.now() + 10_000)
  await until(async () => (await count(renter.client, 'completed')) >= 5, 'some tasks to end')

  fillDisk()
  expect(await refusalOf(renter.client)).toMatchObject({ status: 507, code: 'database_full' })
  expect((await renter.client.wallet.get()).balance).not.toBe('0')
  await until(async () => (await keptResults()) > 0, 'a result that the market could not take')

  await market.kill('SIGKILL')
  const again = await startMarket({ folder: disk, port, env })
  expect(await refusalOf(renter.client)).toMatchObject({ status: 507, code: 'database_full' })

  rmSync(filler())
  await submitting
  await allEnded(renter)
  await renter.payAll()
  await agent.kill('SIGTERM')
  await again.kill('SIGTERM')
  expect(trouble).toEqual([])
  expect(await keptResults()).toBe(0)
  expect(await brokenPromises(join(disk, 'orbyte.db'), renter.submissions)).toEqual([])
}, 180_000)

test('a database that reaches its limit under load: clear refusals, nothing lost, and the market goes on when it may grow', async () => {
  const path = join(disk, 'orbyte.db')
  const sqlite = new DatabaseSync(path)
  sqlite.exec('PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL')
  const settings = { DATABASE_URL: path, PORT: '0', LOG_LEVEL: 'silent', ALLOW_EMULATED_GPUS: 'true', ...env }
  const limits = { ...defaultLimits, callsPerMinuteMax: 0, callLimitFactor: 1_000 }
  const server = await startServer({ ...loadConfig(settings), limits }, { database: sqliteDatabase(sqlite) })
  const { renter, agent, trouble } = await populate(server.url)
  const submitting = renter.live(Date.now() + 6_000)
  await until(async () => (await count(renter.client, 'completed')) >= 5, 'some tasks to end')

  limitPages(sqlite)
  expect(await refusalOf(renter.client)).toMatchObject({ status: 507, code: 'database_full' })
  await until(async () => (await keptResults()) > 0, 'a result that the market could not take')

  sqlite.exec('PRAGMA max_page_count = 1000000')
  await submitting
  await allEnded(renter)
  await renter.payAll()
  await agent.kill('SIGTERM')
  await server.close()
  expect(trouble).toEqual([])
  expect(await keptResults()).toBe(0)
  expect(await brokenPromises(path, renter.submissions)).toEqual([])
}, 180_000)

function limitPages(sqlite: DatabaseSyncInstance) {
  const { page_count } = sqlite.prepare('PRAGMA page_count').get() as { page_count: number }
  sqlite.exec(`PRAGMA max_page_count = ${page_count}`)
}

/** A provider with four GPUs, and a renter with some money who keeps asking. */
async function populate(url: string): Promise<{ renter: Renter; agent: Process; trouble: string[] }> {
  const trouble: string[] = []
  const [provider] = [await newUser(url, 'provider'), await newUser(url, 'renter')]
  const client = createClient({ url, retry: { retriesMax: 0 }, replyMsMax: 5_000 })
  await logIn(client, { email: 'renter@example.org', password: 'a password for tests' })
  await client.wallet.deposit({ amount: '1000' })
  const { token } = await provider.agentTokens.create({ name: 'full disk' })
  const flags = { server: url, token, data: join(folder, 'agent'), emulate: 'RTX 4090:24x4', price: '1' }
  const words = Object.entries(flags).flatMap(([flag, value]) => [`--${flag}`, value])
  const agent = orbyte(['agent', 'start', ...words, '--allow-fake'], { cwd: folder, env })
  const free = async () => (await provider.gpus.mine()).items.filter(({ status }) => status === 'available').length
  await until(async () => (await free()) === 4, 'the GPUs to connect')
  const onTrouble = (sentence: string) => trouble.push(sentence)
  const renter = createRenter({ name: 'renter', client, random: seededRandom(3), pauseMs: 150, onTrouble })
  return { renter, agent, trouble }
}

/** What a submission is told once there is no room. Those before may still fit into what the files had already. */
async function refusalOf(client: Client): Promise<unknown> {
  const input_data = { output: 'x'.repeat(200_000) }
  for (;;) {
    const refusal = await client.tasks
      .create({ title: 'filling', task_type: 'other', input_data, max_price_per_hour: '1', wait: true })
      .then(() => null)
      .catch((error: unknown) => error)
    if (refusal !== null) return refusal
  }
}

const count = async (client: Client, status: 'pending' | 'running' | 'completed') =>
  (await client.tasks.list({ status, limit: 200 })).items.length

const allEnded = ({ client }: Renter) =>
  until(
    async () => (await count(client, 'pending')) + (await count(client, 'running')) === 0,
    'everything to end',
    120_000,
  )

/** Results that the agent keeps because the market has not acknowledged them. */
async function keptResults(): Promise<number> {
  const results = join(folder, 'agent/results')
  const names = (await readdir(results).catch(() => [])).filter((name) => name.endsWith('.json'))
  const texts = await Promise.all(names.map((name) => readFile(join(results, name), 'utf8').catch(() => '')))
  return texts.filter((text) => text.includes('attempt.result')).length
}
