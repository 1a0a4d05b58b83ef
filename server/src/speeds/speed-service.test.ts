import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { api } from '@orbyte/protocol'
import type { ScriptedAgent } from '../agents/fixture-agent.ts'
import { type Market, startMarket } from '../fixture-market.ts'
import type { TestUser } from '../fixture-server.ts'

const secrets = { secretKey: 'a secret key for tests', ledgerKey: 'a ledger key for tests' }
let folder: string
let market: Market
let alice: TestUser
let agents: ScriptedAgent[]
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'orbyte-speeds-'))
  market = await startMarket({ config: { databasePath: join(folder, 'orbyte.db'), ...secrets } })
  alice = await market.person('100')
  agents = []
})
afterEach(async () => {
  await market.close()
  await rm(folder, { recursive: true })
})

const story = 'word '.repeat(100)

/** A GPU of a new owner's. */
async function anotherGpu() {
  const agent = await market.machine(await market.person(), [{ price_per_hour: '1' }])
  agents.push(agent)
  return agent
}

/** A task of a hundred tokens runs for so long on exactly this GPU. */
async function runFor(agent: ScriptedAgent, runMs: number) {
  const { id } = await market.submit(alice, {
    task_type: 'text_generation',
    input_data: { prompt: 'Once' },
    requirements: { gpu_id: agent.gpuId },
    max_cost: '0.1',
  })
  const start = await agent.begin()
  await agent.output(start, 0, story)
  market.clock.advance(runMs)
  for (const one of agents) await one.heartbeat()
  const tokens = { prompt_tokens: 0, completion_tokens: 100 }
  const output_data = { text: story, model: 'tinylm', finish_reason: 'length', ...tokens }
  await agent.result(start, { run_ms: runMs, output_data })
  const [attempt] = (await market.task(alice, id)).attempts
  return { id, attempt: attempt! }
}

const speeds = async ({ gpuId }: ScriptedAgent) => (await market.ask(null, api.gpus.speeds, { gpu_id: gpuId })).items
const gpu = ({ gpuId }: ScriptedAgent) => market.ask(null, api.gpus.get, { gpu_id: gpuId })

test('a GPU’s speed is measured on what it completed and charged, and survives a restart', async () => {
  const agent = await anotherGpu()
  expect(await speeds(agent)).toEqual([])
  for (const runMs of [1_000, 1_000]) await runFor(agent, runMs)
  expect(await speeds(agent)).toMatchObject([{ attempts: 2, per_second: null }])
  await runFor(agent, 1_000)
  const measured = [{ model: 'tinylm', task_type: 'text_generation', unit: 'tokens', per_second: 100, attempts: 3 }]
  expect(await speeds(agent)).toMatchObject(measured)
  const { clock } = market
  await market.close()
  market = await startMarket({ config: { databasePath: join(folder, 'orbyte.db'), ...secrets }, outside: { clock } })
  market.clock = clock
  expect(await speeds(agent)).toMatchObject(measured)
})

test('a run that takes far longer than on others’ GPUs of its kind is flagged: on the attempt, on the GPU, in an event', async () => {
  const honest = [await anotherGpu(), await anotherGpu(), await anotherGpu()]
  for (const agent of honest) for (let tasks = 0; tasks < 3; tasks++) await runFor(agent, 1_000)
  const liar = await anotherGpu()
  const slowly = await runFor(liar, 60_000)
  expect(slowly.attempt).toMatchObject({ slow: true, expected_run_ms: 1_000, run_ms: 60_000 })
  expect((await gpu(liar)).tasks_slow).toBe(1)
  const events = await market.context.database.read((reader) =>
    market.context.events.ofTask(reader, { taskId: slowly.id, after: 0, limit: 100 }),
  )
  expect(events.find(({ type }) => type === 'attempt.slow')).toMatchObject({
    data: { gpu_id: liar.gpuId, run_ms: 60_000, expected_run_ms: 1_000 },
  })
  expect((await runFor(honest[0]!, 4_000)).attempt).toMatchObject({ slow: false, expected_run_ms: 1_000 })
  expect((await gpu(honest[0]!)).tasks_slow).toBe(0)
})

test('a GPU that is the only one of its kind is measured against itself', async () => {
  const agent = await anotherGpu()
  for (let tasks = 0; tasks < 3; tasks++)
    expect((await runFor(agent, 1_000)).attempt).toMatchObject({ slow: false, expected_run_ms: null })
  expect((await runFor(agent, 30_000)).attempt).toMatchObject({ slow: true, expected_run_ms: 1_000 })
})

test('text that trickles until its time is over is charged, and flagged', async () => {
  const agent = await anotherGpu()
  for (let tasks = 0; tasks < 3; tasks++) await runFor(agent, 1_000)
  const { id } = await market.submit(alice, {
    task_type: 'text_generation',
    input_data: { prompt: 'Once' },
    max_duration_ms: 60_000,
  })
  const start = await agent.begin()
  await agent.output(start, 0, 'Once')
  market.clock.advance(60_000)
  await agent.result(start, { outcome: 'failed', fault: 'renter', code: 'max_duration', run_ms: 60_000 })
  expect(await market.task(alice, id)).toMatchObject({
    status: 'failed',
    end: { code: 'max_duration' },
    attempts: [{ run_ms: 60_000, slow: true, expected_run_ms: 40 }],
  })
  expect((await speeds(agent))[0]).toMatchObject({ attempts: 3 })
})
