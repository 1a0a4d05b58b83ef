import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Client } from '@orbyte/sdk'
import { until } from '../dev/network.ts'
import { freePort, killAll, newUser, orbyte, type Process, startMarket } from './processes.ts'
import { after, type Behaviour, type Facts } from './hostile-behaviour.ts'

/** All of the market's times, so that an agent counts as dead after nine seconds. */
const scale = 0.1
const deadMs = 90_000

type Provider = { client: Client; agent: Process }

async function startProvider(url: string, folder: string, name: string): Promise<Provider> {
  const client = await newUser(url, name)
  const { token } = await client.agentTokens.create({ name })
  const flags = { server: url, token, data: join(folder, name), emulate: 'RTX 4090:24', price: '1' }
  const words = Object.entries(flags).flatMap(([flag, value]) => [`--${flag}`, value])
  const agent = orbyte(['agent', 'start', ...words, '--allow-fake'], {
    cwd: folder,
    env: { TIME_SCALE: String(scale) },
  })
  await until(async () => (await client.gpus.mine()).items[0]?.status === 'available', `${name} to connect`)
  return { client, agent }
}

/** A real market and two real agents; the one that runs the task is stopped in the middle of it, and goes on when it is over. */
async function freezeOne(folder: string): Promise<Facts> {
  const port = await freePort()
  const url = `http://127.0.0.1:${port}`
  await startMarket({ folder, port, env: { TIME_SCALE: String(scale), AUDIT_BUDGET_PER_DAY: '0' } })
  const providers = [await startProvider(url, folder, 'one'), await startProvider(url, folder, 'other')]
  const renter = await newUser(url, 'renter')
  await renter.wallet.deposit({ amount: '10' })
  const input_data = { sleep_ms: 3_000, output: 'whole', chunks: 3 }
  const { id } = await renter.tasks.create({ task_type: 'other', input_data })
  const task = () => renter.tasks.get({ task_id: id })
  await until(async () => (await task()).attempts[0]?.status === 'running', 'it to run')
  const { gpu_id } = await task()
  const owns = async ({ client }: Provider) => (await client.gpus.mine()).items[0]!.id === gpu_id
  const frozen = (await owns(providers[0]!)) ? providers[0]! : providers[1]!
  frozen.agent.child.kill('SIGSTOP')
  const beganMs = Date.now()
  await until(async () => (await task()).attempts[0]!.end !== null, 'it to be taken away')
  const measuredMs = Date.now() - beganMs
  await until(async () => (await task()).status === 'completed', 'it to run elsewhere')
  frozen.agent.child.kill('SIGCONT')
  await until(async () => (await frozen.client.gpus.mine()).items[0]!.status === 'available', 'it to come back')
  const { attempts } = await task()
  const isWhole = (await renter.tasks.output({ task_id: id })) === 'whole' && attempts.length === 2
  const isInTime = measuredMs >= 0.9 * deadMs * scale
  const stoppedBy = isWhole && isInTime ? attempts[0]!.end!.code : 'nothing'
  return { paid: (await frozen.client.wallet.get()).balance, stoppedBy, detected: after(deadMs) }
}

export const freezes: Behaviour = {
  name: 'is frozen (SIGSTOP) past its deadline, and goes on as if nothing had happened',
  response:
    'Its deadline is over before it counts as dead: the task runs elsewhere, once. What it says afterwards has no effect.',
  async run() {
    const folder = await mkdtemp(join(tmpdir(), 'orbyte-frozen-'))
    try {
      return await freezeOne(folder)
    } finally {
      await killAll()
      await rm(folder, { recursive: true, force: true })
    }
  },
}
