import { afterEach, beforeEach, expect, test } from 'vitest'
import { api, type InputOf, type Problem } from '@orbyte/protocol'
import type { DeviceWire, ScriptedAgent } from '../agents/fixture-agent.ts'
import { type Market, startMarket } from '../fixture-market.ts'
import { outcome, type TestUser } from '../fixture-server.ts'

let market: Market
let alice: TestUser
let bob: TestUser
let carol: TestUser
beforeEach(async () => {
  market = await startMarket()
  alice = await market.person('1000')
  bob = await market.person()
  carol = await market.person('1000')
})
afterEach(() => market.close())

type NewTask = InputOf<typeof api.tasks.create>
const other = (fields: Partial<NewTask> = {}): NewTask => ({ task_type: 'other', input_data: {}, ...fields })
const estimate = (fields: Partial<NewTask> = {}) => market.ask(alice, api.tasks.estimate, other(fields))
const explain = (id: string, by = alice) => market.ask(by, api.tasks.explain, { task_id: id })
const explainGpu = (id: string, by = bob) => market.ask(by, api.gpus.explain, { gpu_id: id })

async function run(agent: ScriptedAgent, runMs: number) {
  const start = await agent.begin()
  market.clock.advance(runMs)
  await agent.heartbeat()
  await agent.result(start, { run_ms: runMs })
}

const machines = (...devices: Partial<DeviceWire>[]) => market.machine(bob, devices)

test('an estimate says what would change it, and a task that asks for that is placed', async () => {
  await machines(
    { price_per_hour: '0.54', vram_mib: 24_576 },
    { price_per_hour: '0.9', vram_mib: 24_576 },
    { price_per_hour: '0.2', vram_mib: 16_384 },
  )
  const wishes = { max_price_per_hour: '0.5', requirements: { min_vram_gb: 24 } }
  const { fitting, relaxations } = await estimate(wishes)
  expect(fitting).toBe(0)
  expect(relaxations.map(({ message, gpus, free }) => [message, gpus, free])).toEqual([
    ['+0.04 ORB an hour', 1, 1],
    ['8 GiB less VRAM', 1, 1],
  ])
  const refused = await market.attempt(alice, api.tasks.create, other(wishes))
  expect(outcome(refused)).toBe('409 no_gpu_fits')
  const { detail, details } = refused.body as Problem
  expect(detail).toContain('It could run with +0.04 ORB an hour (1 GPU), or 8 GiB less VRAM (1 GPU).')
  expect((details as { relaxations: unknown[] }).relaxations).toEqual(relaxations)
  for (const { requirements, max_price_per_hour, gpus } of relaxations) {
    const asked = { requirements, max_price_per_hour: max_price_per_hour! }
    expect((await estimate(asked)).fitting).toBe(gpus)
    expect(await market.submit(alice, asked)).toMatchObject({ status: 'pending' })
  }
})

test('what to expect is what such tasks took lately, and where none has run it says so', async () => {
  const agent = await machines({ price_per_hour: '3.6' })
  expect(await estimate()).toMatchObject({
    expected_wait: { ms: 0, basis: expect.stringContaining('1 of the 1 GPUs that fit are free') },
    expected_cost: { amount: null, basis: expect.stringContaining('nothing of this kind has run') },
  })
  for (const runMs of [9_000, 10_000, 60_000]) {
    await market.submit(alice)
    await run(agent, runMs)
  }
  await market.submit(alice)
  await agent.begin()
  await market.submit(carol)
  const { expected_wait, expected_cost } = await estimate()
  expect(expected_cost).toEqual({
    amount: '0.01',
    basis: expect.stringMatching(/3\.6 ORB an hour on .* for 10 s.*last 3/),
  })
  expect(expected_wait).toEqual({
    ms: 20_000,
    basis: expect.stringMatching(/1 GPU could run it, 1 task goes first.*10 s/),
  })
})

test('a waiting task says why, what goes before it, and what each GPU says to it', async () => {
  const agent = await machines(
    { name: 'busy', price_per_hour: '1' },
    { name: 'dear', price_per_hour: '9' },
    { name: 'other', task_types: ['embedding'] },
  )
  const running = await market.submit(carol, { max_price_per_hour: '1' })
  await agent.begin()
  await market.submit(carol, { max_price_per_hour: '1' })
  const { id } = await market.submit(alice, { max_price_per_hour: '1' })
  const explained = await explain(id)
  expect(explained).toMatchObject({
    task_id: id,
    status: 'pending',
    code: 'gpu_in_use',
    fitting: 1,
    free: 0,
    ahead: 1,
    relaxations: [{ message: '+8 ORB an hour', gpus: 1, free: 1, max_price_per_hour: '9' }],
    expected_wait: { ms: null },
  })
  expect(explained.offers.map(({ name, fits, rejection }) => [name, fits, rejection?.code])).toEqual([
    ['busy', true, 'gpu_in_use'],
    ['dear', false, 'price_above_maximum'],
    ['other', false, 'task_type_not_offered'],
  ])
  expect(await explain(running.id, carol)).toMatchObject({
    status: 'running',
    code: 'running',
    ahead: null,
    expected_wait: null,
  })
  await market.ask(alice, api.tasks.cancel, { task_id: id })
  expect(await explain(id)).toMatchObject({ status: 'cancelled', code: 'cancelled', ahead: null })
  expect(outcome(await market.attempt(bob, api.tasks.explain, { task_id: id }))).toBe('404 not_found')
})

test('how many offers are shown is the caller’s to say', async () => {
  await machines({}, {}, {})
  const { id } = await market.submit(alice, { max_price_per_hour: '0.1', wait: true })
  expect((await market.ask(alice, api.tasks.explain, { task_id: id, limit: 2 })).offers).toHaveLength(2)
  expect(outcome(await market.attempt(alice, api.tasks.explain, { task_id: id, limit: 0 }))).toBe('400 invalid_request')
})

test('an owner is told why a GPU does not earn, and how its price compares', async () => {
  const cheap = await machines({ name: 'cheap', price_per_hour: '1' })
  const dear = await machines({ name: 'dear', price_per_hour: '3' })
  const small = await machines({ name: 'small', price_per_hour: '0.5', vram_mib: 8_192 })
  for (const maximum of ['2', '9', '9']) {
    await market.submit(alice, { requirements: { min_vram_gb: 16 }, max_price_per_hour: maximum })
    await run(cheap, 1_000)
  }
  expect(await explainGpu(cheap.gpuId)).toMatchObject({ code: 'earns', considered: 3, fitted: 3, won: 3, lost: [] })
  expect(await explainGpu(dear.gpuId)).toMatchObject({
    code: 'others_were_better',
    fitted: 2,
    won: 0,
    lost: [
      { code: 'others_were_better', tasks: 2 },
      { code: 'price_above_maximum', message: 'they pay less than it costs', tasks: 1 },
    ],
    others_price_per_hour: '1',
    price: { price_per_hour: '3', gpus: 2, cheaper: 2, lowest: '0.5', median: '0.5', highest: '1' },
  })
  expect(await explainGpu(small.gpuId)).toMatchObject({
    code: 'vram_too_small',
    message: expect.stringContaining('fits none of the last 3 tasks'),
    fitted: 0,
  })
})

test('an owner’s own minimum above the price is the first thing to say', async () => {
  const limits = { task_types: null, models: null, min_price_per_hour: '2' }
  const agent = await machines({ price_per_hour: '3', limits })
  await market.ask(bob, api.gpus.update, { gpu_id: agent.gpuId, price_per_hour: '1' })
  expect(await explainGpu(agent.gpuId)).toMatchObject({
    code: 'below_owners_minimum_price',
    message: expect.stringContaining('--price 2'),
  })
})

test('what keeps a GPU from earning at the moment comes first', async () => {
  const agent = await machines({ price_per_hour: '1' })
  expect(await explainGpu(agent.gpuId)).toMatchObject({
    code: expect.stringMatching(/^(no_demand|others_were_better|earns)$/),
  })
  const start = await market.submit(alice, { max_price_per_hour: '1' }).then(() => agent.begin())
  await agent.result(start, { outcome: 'failed', fault: 'provider' })
  expect(await explainGpu(agent.gpuId)).toMatchObject({
    code: 'cooling_down',
    message: expect.stringContaining('1 time'),
  })
  await market.ask(bob, api.gpus.update, { gpu_id: agent.gpuId, maintenance: true })
  expect(await explainGpu(agent.gpuId)).toMatchObject({ code: 'gpu_in_maintenance' })
  expect(outcome(await market.attempt(alice, api.gpus.explain, { gpu_id: agent.gpuId }))).toBe('403 forbidden')
})
