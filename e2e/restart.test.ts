import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { Client } from '@orbyte/sdk'
import { verifyLedgerFile } from '@orbyte/server/ledger/ledger-verify.ts'
import { until } from '../dev/network.ts'
import { freePort, killAll, newUser, orbyte, type Process, startMarket } from './processes.ts'

let folder: string
let port: number
let url: string
let market: Process
let provider: Client
let renter: Client

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'orbyte-restart-'))
  port = await freePort()
  url = `http://127.0.0.1:${port}`
  market = await startMarket({ folder, port })
  provider = await newUser(url, 'provider')
  renter = await newUser(url, 'renter')
  await renter.wallet.deposit({ amount: '10' })
})
afterEach(async () => {
  await killAll()
  await rm(folder, { recursive: true, force: true })
})

test('SIGTERM stops the market in order, and what runs meanwhile is paid for after the restart', async () => {
  await startAgent('agent-1')
  const task = await submit({ sleep_ms: 4_000, output: 'done' })
  await until(async () => (await statusOf(task)) === 'running', 'the task to run')
  await market.kill('SIGTERM')
  expect(market.child.exitCode).toBe(0)
  market = await startMarket({ folder, port })
  await until(async () => (await statusOf(task)) === 'completed', 'the task to end')
  expect((await renter.tasks.get({ task_id: task })).attempts).toMatchObject([{ number: 1, status: 'completed' }])
  await provesItsLedger()
})

test('kill -9 of an agent: once it is back, what it ran is tried on another GPU, uncharged and paid once', async () => {
  const agents = { 'agent-1': await startAgent('agent-1'), 'agent-2': await startAgent('agent-2') }
  const task = await submit({ sleep_ms: 5_000, output: 'done' })
  const running = async () =>
    (await renter.tasks.get({ task_id: task })).attempts.find(({ status }) => status === 'running')
  await until(async () => (await running()) !== undefined, 'the attempt to run')
  const name = (await running())!.gpu_name as keyof typeof agents
  await agents[name].kill('SIGKILL')
  await startAgent(name)
  await until(async () => (await statusOf(task)) === 'completed', 'the task to end')
  const { attempts, cost } = await renter.tasks.get({ task_id: task })
  expect(attempts.map(({ status, cost: paid }) => [status, paid])).toEqual([
    [expect.stringMatching(/failed|lost/), '0'],
    ['completed', cost],
  ])
  expect(attempts[0]!.gpu_id).not.toBe(attempts[1]!.gpu_id)
  expect(attempts[0]!.end).toMatchObject({ code: 'agent_restarted' })
  expect((await renter.payments.sent()).items).toHaveLength(1)
  await provesItsLedger()
})

test('SIGTERM of an agent lets what runs finish, and takes nothing new', async () => {
  const agent = await startAgent('agent-1')
  const task = await submit({ sleep_ms: 2_000, output: 'done' })
  await until(
    async () => (await renter.tasks.get({ task_id: task })).attempts[0]?.status === 'running',
    'the attempt to run',
  )
  await agent.kill('SIGTERM')
  expect(agent.child.exitCode).toBe(0)
  expect(await renter.tasks.get({ task_id: task })).toMatchObject({ status: 'completed', attempts_count: 1 })
  const refused = renter.tasks.create({ task_type: 'other', input_data: {} })
  await expect(refused).rejects.toMatchObject({ code: 'no_gpu_fits' })
})

async function startAgent(name: string): Promise<Process> {
  const { token } = await provider.agentTokens.create({ name })
  const flags = { server: url, token, data: join(folder, name), emulate: 'RTX 4090:24', price: '1', name }
  const words = Object.entries(flags).flatMap(([flag, value]) => [`--${flag}`, value])
  const agent = orbyte(['agent', 'start', ...words, '--allow-fake'], { cwd: folder })
  const offered = async () =>
    (await provider.gpus.mine()).items.some((gpu) => gpu.name === name && gpu.status === 'available')
  await until(offered, `${name} to connect`).catch((error: unknown) => {
    throw new Error(`${String(error)}; it says: ${agent.said()}`)
  })
  return agent
}

async function submit(input_data: Record<string, string | number>): Promise<string> {
  return (await renter.tasks.create({ task_type: 'other', input_data })).id
}

async function statusOf(taskId: string): Promise<string> {
  return (await renter.tasks.get({ task_id: taskId })).status
}

async function provesItsLedger() {
  await market.kill('SIGTERM')
  expect((await verifyLedgerFile(join(folder, 'orbyte.db'))).problems).toEqual([])
}
