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

type NewTask = Parameters<Client['tasks']['create']>[0]

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
  const agent = await startAgent(provider, port)
  const free = async () => (await provider.gpus.mine()).items.filter(({ status }) => status === 'available').length
  await until(async () => (await free()) === 4, 'the GPUs to connect')
  const files = [{ name: 'note.txt', text: 'x'.repeat(100_000) }]
  const submit = async (count: number, input_data: NewTask['input_data']) => {
    const tasks = Array.from({ length: count }, () => ({ task_type: 'other' as const, input_data }))
    return (await renter.tasks.createBatch({ tasks })).items.map(({ id }) => id)
  }
  // Some that have ended, as many as there are GPUs that run until they are cancelled, and some that wait for these.
  const ended = await submit(6, { output: 'text', files })
  await until(async () => (await withStatus(renter, 'completed')).length === ended.length, 'the first tasks to end')
  const endless = await submit(4, { sleep_ms: 600_000, output: 'never', chunks: 600 })
  await until(async () => (await withStatus(renter, 'running')).length === endless.length, 'all GPUs to be in use')
  const waiting = await submit(6, { output: 'text', files })

  const others = keepBusy(await newUser(urlOf(port), 'another'))
  expect(await backUp('--secret-file', 'orbyte.db.secret', '--keys-of', 'orbyte.db')).toMatchObject({ code: 0 })
  await others.rest()
  const goOn = async (client: Client) => {
    for (const id of endless) await client.tasks.cancel({ task_id: id })
    const count = ended.length + waiting.length
    await until(async () => (await withStatus(client, 'completed')).length === count, 'what waited to end')
    expect((await client.wallet.get()).held).toBe('0')
  }
  await goOn(renter)
  await agent.kill('SIGKILL')
  await market.kill('SIGTERM')
  const copied = rowsOf('backup/orbyte.db')
  const statusesOf = (ids: string[]) =>
    new Set(copied.tasks.flatMap(({ id, status }) => (ids.includes(id) ? status : [])))
  expect([ended, endless, waiting].map(statusesOf)).toEqual([
    new Set(['completed']),
    new Set(['running']),
    new Set(['pending']),
  ])
  // It is how things were at one moment: the later ones begin with it.
  const later = rowsOf('orbyte.db')
  expect(later.transfers.slice(0, copied.transfers.length)).toEqual(copied.transfers)
  expect(later.events.slice(0, copied.events.length)).toEqual(copied.events)
  expect(later.transfers.length).toBeGreaterThan(copied.transfers.length)

  const elsewhere = await freePort()
  expect(await run(['restore', 'backup', '--database', 'restored/orbyte.db'])).toMatchObject({ code: 0 })
  await startMarket({ folder: join(folder, 'restored'), port: elsewhere })
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
  await startAgent(again, elsewhere)
  await again.setTokens(await again.auth.token({ username: 'renter@example.org', password: 'a password for tests' }))
  await goOn(again)
}, 240_000)

test('a damaged backup is neither verified nor restored, and nothing is overwritten', async () => {
  const renter = await newUser(urlOf(port), 'renter')
  await renter.wallet.deposit({ amount: '5' })
  const { public_key: key } = await renter.ledger.head()
  const { key: token } = await renter.apiKeys.create({ name: 'of one who is no administrator' })
  expect(await backUp('--secret-file', 'orbyte.db.secret', '--key', key)).toMatchObject({ code: 0 })
  for (const path of ['backup', 'backup/orbyte.db'])
    expect(await run(['ledger', 'verify', path]), path).toMatchObject({ code: 0 })
  const before = read('orbyte.db')
  for (const [command, says] of [
    [['restore', 'backup', '--database', 'orbyte.db'], 'Nothing is overwritten'],
    [['backup', 'backup', '--secret-file', 'orbyte.db.secret'], 'give another name'],
  ] as const) {
    const { code, said } = await run(command)
    expect({ code, said }).toEqual({ code: 2, said: expect.stringContaining(says) })
  }
  const forbidden = await run(['backup', 'another'], { ORBYTE_TOKEN: token })
  expect(forbidden).toEqual({ code: 1, said: expect.stringContaining('--secret-file') })
  expect(read('orbyte.db')).toEqual(before)

  truncateSync(join(folder, 'backup/orbyte.db'), statSync(join(folder, 'backup/orbyte.db')).size - 4_096)
  for (const command of [
    ['ledger', 'verify', 'backup'],
    ['restore', 'backup', '--database', 'restored/orbyte.db'],
  ]) {
    const { code, said } = await run(command)
    expect({ code, said }).toEqual({ code: 1, said: expect.stringMatching(/orbyte\.db has \d+ of \d+ bytes/) })
  }
  expect(existsSync(join(folder, 'restored'))).toBe(false)
}, 120_000)

test('a market restored without its ledger key says that it needs it, and starts with it', async () => {
  await newUser(urlOf(port), 'renter').then((renter) => renter.wallet.deposit({ amount: '5' }))
  expect(await backUp('--secret-file', 'orbyte.db.secret')).toMatchObject({ code: 0 })
  const restored = await run(['restore', 'backup', '--database', 'restored/orbyte.db'])
  expect(restored.said).toContain('restored/orbyte.db.ledger-key')
  await expect(startMarket({ folder: join(folder, 'restored'), port: await freePort() })).rejects.toThrow('ledger-key')
  writeFileSync(join(folder, 'restored/orbyte.db.ledger-key'), read('orbyte.db.ledger-key'))
  await startMarket({ folder: join(folder, 'restored'), port: await freePort() })
}, 60_000)

/** Moves money until `rest`, which resolves when nothing moves any more. */
function keepBusy(renter: Client): { rest(): Promise<void> } {
  let isOver = false
  const busy = (async () => {
    while (!isOver) {
      await renter.wallet.deposit({ amount: '0.01' })
      await renter.wallet.withdraw({ amount: '0.01' })
    }
  })()
  return {
    rest() {
      isOver = true
      return busy
    },
  }
}

const urlOf = (own: number) => `http://127.0.0.1:${own}`
const read = (path: string) => readFileSync(join(folder, path))

/** With four GPUs. */
async function startAgent(provider: Client, at: number): Promise<Process> {
  const { token } = await provider.agentTokens.create({ name: 'backup test' })
  const flags = { server: urlOf(at), token, data: join(folder, 'agent'), emulate: 'RTX 4090:24x4', price: '1' }
  const words = Object.entries(flags).flatMap(([flag, value]) => [`--${flag}`, value])
  return orbyte(['agent', 'start', ...words, '--allow-fake'], { cwd: folder })
}

const withStatus = async (client: Client, status: 'pending' | 'running' | 'completed') =>
  (await client.tasks.list({ status, limit: 200 })).items

const backUp = (...words: string[]) => run(['backup', 'backup', ...words])

async function run(words: readonly string[], env: Record<string, string> = {}) {
  const command = orbyte(words, {
    cwd: folder,
    env: { ORBYTE_URL: urlOf(port), ORBYTE_CONFIG: join(folder, 'config.json'), ...env },
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
    tasks: all('SELECT id, status, cost_micros FROM task_states ORDER BY id').map(({ id, status, cost_micros }) => ({
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
