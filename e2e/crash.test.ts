import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { type Client, pages } from '@orbyte/sdk'
import { verifyLedgerFile } from '@orbyte/server/ledger/ledger-verify.ts'
import { until } from '../dev/network.ts'
import { freePort, killAll, newUser, orbyte, startMarket } from './processes.ts'

let folder: string
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'orbyte-crash-'))
})
afterEach(async () => {
  await killAll()
  await rm(folder, { recursive: true, force: true })
})

const tasksCount = 200

test('kill -9 of the server while 200 tasks run: all end after the restart, each paid exactly once', async () => {
  const port = await freePort()
  const url = `http://127.0.0.1:${port}`
  const market = await startMarket({ folder, port })
  const [provider, renter] = [await newUser(url, 'provider'), await newUser(url, 'renter')]
  await renter.wallet.deposit({ amount: '1000' })
  await startAgent(url, provider)

  const input_data = { sleep_ms: 8_000, output: 'still the same attempt', chunks: 4 }
  const task = { task_type: 'other' as const, input_data, max_price_per_hour: '1' }
  const { items } = await renter.tasks.createBatch({ tasks: Array.from({ length: tasksCount }, () => task) })
  await until(async () => (await tasksWith(renter, 'pending')).length === 0, 'all tasks to start', 120_000)
  const running = await tasksWith(renter, 'running')
  await market.kill('SIGKILL')
  expect(running).not.toEqual([])
  const again = await startMarket({ folder, port })
  await until(async () => (await openTasks(renter)) === 0, 'all tasks to end', 120_000)

  const ended = await tasksWith(renter, 'completed')
  expect(ended.map(({ id }) => id).sort()).toEqual(items.map(({ id }) => id).sort())
  // Re-adopted, not restarted: one attempt each.
  expect(ended.filter(({ attempts_count }) => attempts_count !== 1)).toEqual([])
  const payments = await all(renter.payments.sent)
  expect(payments.map(({ task_id }) => task_id).sort()).toEqual(items.map(({ id }) => id).sort())
  expect(payments.filter(({ status, run_ms }) => status !== 'completed' || run_ms === 0)).toEqual([])
  expect((await renter.wallet.get()).held).toBe('0')
  expect((await renter.ledger.head()).sum).toBe('0')

  await again.kill('SIGTERM')
  const report = await verifyLedgerFile(join(folder, 'orbyte.db'))
  expect(report.problems).toEqual([])
  expect(report.transfers).toBeGreaterThanOrEqual(2 * tasksCount)
}, 240_000)

async function startAgent(url: string, provider: Client) {
  const { token } = await provider.agentTokens.create({ name: 'crash test' })
  const flags = { server: url, token, data: join(folder, 'agent'), emulate: `RTX 4090:24x${tasksCount}`, price: '1' }
  const words = Object.entries(flags).flatMap(([flag, value]) => [`--${flag}`, value])
  const agent = orbyte(['agent', 'start', ...words, '--allow-fake'], { cwd: folder })
  const free = async () =>
    (await provider.gpus.mine({ limit: 200 })).items.filter(({ status }) => status === 'available').length
  await until(async () => (await free()) === tasksCount, 'the GPUs to connect', 60_000).catch((error: unknown) => {
    throw new Error(`${String(error)}; the agent says: ${agent.said()}`)
  })
}

const tasksWith = async (client: Client, status: 'pending' | 'running' | 'completed') =>
  (await client.tasks.list({ status, limit: 200 })).items

const openTasks = async (client: Client) =>
  (await tasksWith(client, 'pending')).length + (await tasksWith(client, 'running')).length

async function all<T>(list: Parameters<typeof pages<{ cursor?: string }, T>>[0]): Promise<T[]> {
  const items: T[] = []
  for await (const item of pages(list, {})) items.push(item)
  return items
}
