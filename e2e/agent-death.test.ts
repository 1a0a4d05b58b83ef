import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { type Client, runTask, type TaskOf } from '@orbyte/sdk'
import { defaultTiming } from '@orbyte/server/config.ts'
import { verifyLedgerFile } from '@orbyte/server/ledger/ledger-verify.ts'
import { until } from '../dev/network.ts'
import { freePort, killAll, newUser, orbyte, startMarket } from './processes.ts'

// With the times that markets have, and how long it took: TIME_SCALE=1 npx vitest run e2e/agent-death.test.ts
const { TIME_SCALE: given } = process.env
const timeScale = Number(given ?? 0.05)
const env = { TIME_SCALE: String(timeScale) }
/** Had the agent only been cut off, it would have stopped by itself by then. */
const deadlineMs = (defaultTiming.deadMs - defaultTiming.deadlineMarginMs) * timeScale

let folder: string
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'orbyte-death-'))
})
afterEach(async () => {
  await killAll()
  await rm(folder, { recursive: true, force: true })
})

/** A real model, whose seed decides what it draws; it takes some seconds. */
const work = {
  task_type: 'image_generation' as const,
  input_data: { prompt: 'a red panda', seed: 7, count: 2, steps: 200, upscale: false },
}

test('kill -9 of an agent that never comes back: what it ran is done elsewhere, with the same output, paid once', async () => {
  const port = await freePort()
  const url = `http://127.0.0.1:${port}`
  const market = await startMarket({ folder, port, env })
  const [provider, renter] = [await newUser(url, 'provider'), await newUser(url, 'renter')]
  await renter.wallet.deposit({ amount: '10' })
  const machines = [
    await startMachine('machine-1', { url, provider }),
    await startMachine('machine-2', { url, provider }),
  ]

  const undisturbed = await runTask(renter, work)
  let killedMs = 0
  let elsewhereMs = 0
  const task = await runTask(renter, work, {
    onEvent({ type, data }) {
      if (type !== 'attempt.ready') return
      if (killedMs > 0) return void (elsewhereMs = Date.now())
      killedMs = Date.now()
      machines.find(({ gpuId }) => gpuId === data.gpu_id)!.agent.child.kill('SIGKILL')
    },
  })

  expect(task.attempts.map(({ status, end, cost }) => [status, end?.code, cost])).toEqual([
    ['lost', 'agent_lost', '0'],
    ['completed', 'completed', task.cost],
  ])
  expect(picturesOf(task)).toEqual(picturesOf(undisturbed))
  const payments = (await renter.payments.sent()).items.filter(({ task_id }) => task_id === task.id)
  expect(payments).toMatchObject([{ status: 'completed', amount: task.cost, attempt_id: task.attempts[1]!.id }])
  expect(elsewhereMs - killedMs).toBeGreaterThan(deadlineMs)
  if (given !== undefined) {
    const figure = { figure: 'agent_death.runs_elsewhere_after', value: (elsewhereMs - killedMs) / 1_000, unit: 's' }
    process.stdout.write(`${JSON.stringify(figure)}\n`)
  }
  await market.kill('SIGTERM')
  expect((await verifyLedgerFile(join(folder, 'orbyte.db'))).problems).toEqual([])
}, 300_000)

const picturesOf = ({ files }: TaskOf<'image_generation'>) => files.map(({ name, sha256 }) => [name, sha256])

/** An agent with one GPU, once it is on offer. */
async function startMachine(name: string, { url, provider }: { url: string; provider: Client }) {
  const { token } = await provider.agentTokens.create({ name })
  const flags = { server: url, token, name, data: join(folder, name), emulate: 'RTX 4090:24', price: '1' }
  const words = Object.entries(flags).flatMap(([flag, value]) => [`--${flag}`, value])
  const agent = orbyte(['agent', 'start', ...words], { cwd: folder, env })
  let gpuId: string | undefined
  await until(async () => {
    const { items } = await provider.gpus.mine()
    gpuId = items.find((gpu) => gpu.name === name && gpu.status === 'available')?.id
    return gpuId !== undefined
  }, `${name} to connect`)
  return { agent, gpuId }
}
