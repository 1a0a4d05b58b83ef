import { once } from 'node:events'
import { existsSync, readFileSync, statSync, truncateSync, writeFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from '@photostructure/sqlite'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { type Client, createClient, pages } from '@orbyte/sdk'
import { until } from '../dev/network.ts'
import { freePort, killAll, newUser, orbyte, type Process, startMarket } from './processes.ts'

let folder: string
let port: number
let market: Process
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'orbyte-backup-'))
  port = await freePort()
  market = await startMarket({ folder, port })
})
afterEach(async () => {
  await killAll()
  await rm(folder, { recursive: true, force: true })
})

test('a market that is backed up while tasks run is the same after a restore, and goes on', async () => {
  const [provider, renter] = [await newUser(urlOf(port), 'provider'), await newUser(urlOf(port), 'renter')]
  await renter.wallet.deposit({ amount: '100' })
  const agent = await startAgent(provider, port, 4)
  const files = [{ name: 'note.txt', text: 'x'.repeat(100_000) }]
  const input_data = { sleep_ms: 400, output: 'four pieces of text', chunks: 4, files }
  const { items } = await renter.tasks.createBatch({
    tasks: Array.from({ length: 24 }, () => ({ task_type: 'other' as const, input_data })),
  })
  await until(async () => (await withStatus(renter, 'completed')).length >= 6, 'a quarter of the tasks to end')

  expect(await backUp('--secret-file', 'orbyte.db.secret', '--keys-of', 'orbyte.db')).toMatchObject({ code: 0 })
  await until(async () => (await withStatus(renter, 'completed')).length === items.length, 'all tasks to end')
  await agent.kill('SIGKILL')
  await market.kill('SIGTERM')
  const copied = rowsOf('backup/orbyte.db')
  expect(copied.tasks.map(({ id }) => id)).toEqual(items.map(({ id }) => id).sort())
  // It was taken in the middle of things, and is how things were at one moment: the later ones begin with it.
  expect(new Set(copied.tasks.map(({ status }) => status))).toEqual(new Set(['pending', 'running', 'completed']))
  const later = rowsOf('orbyte.db')
  expect(later.transfers.slice(0, copied.transfers.length)).toEqual(copied.transfers)
  expect(later.events.slice(0, copied.events.length)).toEqual(copied.events)
  expect(later.transfers.length).toBeGreaterThan(copied.transfers.length)

  const elsewhere = await freePort()
  expect(await run('restore', 'backup', '--database', 'restored/orbyte.db')).toMatchObject({ code: 0 })
  // Its cool-downs are short: all that ran when the copy was made is lost to its agent.
  await startMarket({ folder: join(folder, 'restored'), port: elsewhere, env: { TIME_SCALE: '0.1' } })
  const again = createClient({ url: urlOf(elsewhere) })
  await again.setTokens(await again.auth.token({ username: 'renter@example.org', password: 'a password for tests' }))
  const tasks = []
  for await (const task of pages(again.tasks.list, {}))
    tasks.push({ id: task.id, status: task.status, cost: task.cost })
  expect(sortedById(tasks)).toEqual(copied.tasks.map(({ id, status, cost }) => ({ id, status, cost })))
  const { balance, held } = await again.wallet.get()
  expect({ balance, held }).toEqual(copied.wallet)
  const [done] = await withStatus(again, 'completed')
  const [file] = (await again.tasks.get({ task_id: done!.id })).files
  expect(await again.tasks.file({ task_id: done!.id, name: file!.name })).toHaveLength(100_000)

  await again.setTokens(await again.auth.token({ username: 'provider@example.org', password: 'a password for tests' }))
  await startAgent(again, elsewhere, 4)
  await again.setTokens(await again.auth.token({ username: 'renter@example.org', password: 'a password for tests' }))
  await until(async () => (await withStatus(again, 'completed')).length === items.length, 'what waited and ran to end')
  expect((await again.wallet.get()).held).toBe('0')
}, 120_000)

test('a damaged backup is neither verified nor restored, and nothing is overwritten', async () => {
  const renter = await newUser(urlOf(port), 'renter')
  await renter.wallet.deposit({ amount: '5' })
  const { public_key: key } = await renter.ledger.head()
  expect(await backUp('--secret-file', 'orbyte.db.secret', '--key', key)).toMatchObject({ code: 0 })
  for (const path of ['backup', 'backup/orbyte.db'])
    expect(await run('ledger', 'verify', path), path).toMatchObject({ code: 0 })
  const before = read('orbyte.db')
  for (const [command, says] of [
    [['restore', 'backup', '--database', 'orbyte.db'], 'Nothing is overwritten'],
    [['backup', 'backup', '--secret-file', 'orbyte.db.secret'], 'give another name'],
  ] as const) {
    const { code, said } = await run(...command)
    expect({ code, said }).toEqual({ code: 2, said: expect.stringContaining(says) })
  }
  expect(read('orbyte.db')).toEqual(before)

  truncateSync(join(folder, 'backup/orbyte.db'), statSync(join(folder, 'backup/orbyte.db')).size - 4_096)
  for (const command of [
    ['ledger', 'verify', 'backup'],
    ['restore', 'backup', '--database', 'restored/orbyte.db'],
  ]) {
    const { code, said } = await run(...command)
    expect({ code, said }).toEqual({ code: 1, said: expect.stringMatching(/orbyte\.db has \d+ of \d+ bytes/) })
  }
  expect(existsSync(join(folder, 'restored'))).toBe(false)
}, 120_000)

test('a market restored without its ledger key says that it needs it, and starts with it', async () => {
  await newUser(urlOf(port), 'renter').then((renter) => renter.wallet.deposit({ amount: '5' }))
  expect(await backUp('--secret-file', 'orbyte.db.secret')).toMatchObject({ code: 0 })
  const restored = await run('restore', 'backup', '--database', 'restored/orbyte.db')
  expect(restored.said).toContain('restored/orbyte.db.ledger-key')
  await expect(startMarket({ folder: join(folder, 'restored'), port: await freePort() })).rejects.toThrow('ledger-key')
  writeFileSync(join(folder, 'restored/orbyte.db.ledger-key'), read('orbyte.db.ledger-key'))
  await startMarket({ folder: join(folder, 'restored'), port: await freePort() })
}, 60_000)

const urlOf = (own: number) => `http://127.0.0.1:${own}`
const read = (path: string) => readFileSync(join(folder, path))

async function startAgent(provider: Client, at: number, gpus: number): Promise<Process> {
  const { token } = await provider.agentTokens.create({ name: 'backup test' })
  const data = join(folder, 'agent')
  const flags = { server: urlOf(at), token, data, emulate: `RTX 4090:24x${gpus}`, price: '1' }
  const words = Object.entries(flags).flatMap(([flag, value]) => [`--${flag}`, value])
  const agent = orbyte(['agent', 'start', ...words, '--allow-fake'], { cwd: folder })
  const free = async () => (await provider.gpus.mine()).items.filter(({ status }) => status === 'available').length
  await until(async () => (await free()) === gpus, 'the GPUs to connect')
  return agent
}

const withStatus = async (client: Client, status: 'pending' | 'running' | 'completed') =>
  (await client.tasks.list({ status, limit: 200 })).items

const backUp = (...words: string[]) => run('backup', 'backup', ...words)

async function run(...words: string[]): Promise<{ code: number | null; said: string }> {
  const command = orbyte(words, {
    cwd: folder,
    env: { ORBYTE_URL: urlOf(port), ORBYTE_CONFIG: join(folder, 'config.json') },
  })
  const [code] = (await once(command.child, 'close')) as [number | null]
  return { code, said: command.said() }
}

/** What a database says of tasks and money, as the API would. */
function rowsOf(path: string) {
  const database = new DatabaseSync(join(folder, path), { readOnly: true })
  const all = (sql: string) => database.prepare(sql).all() as Record<string, string | number | null>[]
  const orb = (micros: unknown) => (micros === null ? null : String(Number(micros) / 1e6))
  const balanceOf = (account: string) =>
    orb(
      all(
        `SELECT balance_micros AS micros FROM accounts WHERE id LIKE '${account}:' || (SELECT id FROM users WHERE email LIKE 'renter%')`,
      )[0]?.micros ?? 0,
    )
  const rows = {
    tasks: all('SELECT id, status, cost_micros FROM tasks ORDER BY id').map(({ id, status, cost_micros }) => ({
      id: String(id),
      status,
      cost: orb(cost_micros),
    })),
    transfers: all('SELECT * FROM transfers ORDER BY seq'),
    events: all('SELECT * FROM events ORDER BY cursor'),
    wallet: { balance: balanceOf('available'), held: balanceOf('held') },
  }
  database.close()
  return rows
}

function sortedById<T extends { id: string }>(rows: T[]): T[] {
  return [...rows].sort((a, b) => (a.id < b.id ? -1 : 1))
}
