import { execFileSync } from 'node:child_process'
import { closeSync, openSync, rmSync, writeSync } from 'node:fs'
import { mkdir, mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from '@photostructure/sqlite'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { type Client, createClient } from '@orbyte/sdk'
import { startServer } from '@orbyte/server'
import { defaultLimits, loadConfig } from '@orbyte/server/config.ts'
import { sqliteDatabase } from '@orbyte/server/db/sqlite-database.ts'
import { until } from '../dev/network.ts'
import { seededRandom } from '../simulation/seeded-random.ts'
import { brokenPromises } from './chaos-promises.ts'
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
  // Lazily: SQLite lets go of a file that was read only when its statements are collected.
  if (isMounted) execFileSync('umount', ['--lazy', disk])
  isMounted = false
  await rm(folder, { recursive: true, force: true })
})

/** A disk of 64 MB, where this user may mount one. */
function mountSmallDisk(): boolean {
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=64m', 'tmpfs', disk], { stdio: 'ignore' })
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
  const start = () => startMarket({ folder: disk, port, env })
  const market = await start()
  const people = await populate(`http://127.0.0.1:${port}`)

  fillDisk()
  await isRefused(people)
  await until(async () => (await keptResults()) > 0, 'a result that the market could not take')
  await market.kill('SIGKILL')
  const again = await start()
  await isRefused(people)

  rmSync(filler())
  await goesOn(people)
  await again.kill('SIGTERM')
  expect(await brokenPromises(join(disk, 'orbyte.db'), people.renter.submissions)).toEqual([])
}, 240_000)

test('a database that reaches its limit under load: clear refusals, nothing lost, and the market goes on when it may grow', async () => {
  const path = join(disk, 'orbyte.db')
  const sqlite = new DatabaseSync(path)
  sqlite.exec('PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL')
  const settings = { DATABASE_URL: path, PORT: '0', LOG_LEVEL: 'silent', ALLOW_EMULATED_GPUS: 'true', ...env }
  const limits = { ...defaultLimits, callsPerMinuteMax: 0, callLimitFactor: 1_000 }
  const server = await startServer({ ...loadConfig(settings), limits }, { database: sqliteDatabase(sqlite) })
  const people = await populate(server.url)

  const { page_count } = sqlite.prepare('PRAGMA page_count').get() as { page_count: number }
  sqlite.exec(`PRAGMA max_page_count = ${page_count}`)
  await isRefused(people)
  await until(async () => (await keptResults()) > 0, 'a result that the market could not take')

  sqlite.exec('PRAGMA max_page_count = 1000000')
  await goesOn(people)
  await server.close()
  expect(await brokenPromises(path, people.renter.submissions)).toEqual([])
}, 240_000)

type People = { renter: Renter; direct: Client; agent: Process; trouble: string[]; rest: () => Promise<void> }

/** A provider with eight GPUs, and a renter with some money who keeps asking until `rest`. Resolves once tasks end. */
async function populate(url: string): Promise<People> {
  const provider = await newUser(url, 'provider')
  const direct = await newUser(url, 'renter')
  await direct.wallet.deposit({ amount: '1000' })
  const { key } = await direct.apiKeys.create({ name: 'one that goes on asking by itself' })
  const { token } = await provider.agentTokens.create({ name: 'full disk' })
  const flags = { server: url, token, data: join(folder, 'agent'), emulate: 'RTX 4090:24x8', price: '1' }
  const words = Object.entries(flags).flatMap(([flag, value]) => [`--${flag}`, value])
  const agent = orbyte(['agent', 'start', ...words, '--allow-fake'], { cwd: folder, env })
  const free = async () => (await provider.gpus.mine()).items.filter(({ status }) => status === 'available').length
  await until(async () => (await free()) === 8, 'the GPUs to connect')

  const trouble: string[] = []
  const onTrouble = (sentence: string) => void trouble.push(sentence)
  const client = createClient({ url, token: key, retry: { retriesMax: 0 } })
  const renter = createRenter({ name: 'renter', client, random: seededRandom(3), pauseMs: 300, onTrouble })
  let isOver = false
  const living = renter.live(() => isOver)
  await until(async () => (await count(direct, 'completed')) >= 3, 'some tasks to end')
  const rest = () => {
    isOver = true
    return living
  }
  return { renter, direct, agent, trouble, rest }
}

/** Submissions are told that there is no room. The first of them may still fit into what the files had already. */
async function isRefused({ direct }: People) {
  const input_data = { output: 'x'.repeat(200_000) }
  const submit = () =>
    direct.tasks.create({ task_type: 'other', input_data, max_price_per_hour: '1', wait: true }).then(
      () => null,
      (error: unknown) => error,
    )
  let refusal = await submit()
  while (refusal === null) refusal = await submit()
  expect(refusal).toMatchObject({ status: 507, code: 'database_full' })
  // What needs no room works.
  expect((await direct.wallet.get()).balance).not.toBe('0')
}

/** There is room again: all that was acknowledged ends and is paid, and nobody was told of a failure of the market's own. */
async function goesOn({ renter, direct, agent, trouble, rest }: People) {
  await rest()
  const open = async () => (await count(direct, 'pending')) + (await count(direct, 'running'))
  await until(async () => (await open()) === 0, 'everything to end', 120_000)
  await renter.payAll()
  await renter.heardAll()
  await agent.kill('SIGTERM')
  expect(trouble).toEqual([])
  expect(await keptResults()).toBe(0)
}

const count = async (client: Client, status: 'pending' | 'running' | 'completed') =>
  (await client.tasks.list({ status, limit: 200 })).items.length

/** Results that the agent keeps because the market has not acknowledged them. */
async function keptResults(): Promise<number> {
  const results = join(folder, 'agent/results')
  const names = (await readdir(results).catch(() => [])).filter((name) => name.endsWith('.json'))
  const texts = await Promise.all(names.map((name) => readFile(join(results, name), 'utf8').catch(() => '')))
  return texts.filter((text) => text.includes('attempt.result')).length
}
