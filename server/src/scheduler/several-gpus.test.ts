import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest'
import { api } from '@orbyte/protocol'
import type { ScriptedAgent } from '../agents/fixture-agent.ts'
import { type Market, startMarket } from '../fixture-market.ts'
import { outcome, type TestUser } from '../fixture-server.ts'

// Tasks that want several whole GPUs of one machine.

let market: Market
let alice: TestUser
let bob: TestUser
beforeAll(async () => {
  market = await startMarket()
})
beforeEach(async () => {
  alice = await market.person('1000')
  bob = await market.person()
})
afterEach(() => market.clear())
afterAll(() => market.close())

/** Machines of earlier tests are offline. */
const among = (rejection: object): unknown => expect.arrayContaining([expect.objectContaining(rejection)])
const abilities = { task_types: ['other' as const], model_formats: [] }
/** A machine with GPUs at these prices. */
const machineAt = (...prices: string[]) =>
  market.machine(
    bob,
    prices.map((price_per_hour) => ({ price_per_hour, several: abilities })),
  )
const gpusOf = (agent: ScriptedAgent) => agent.welcome.gpus.map(({ gpu_id }) => gpu_id)
const two = { requirements: { gpu_count: 2 } }
const statuses = async (agent: ScriptedAgent) =>
  Promise.all(gpusOf(agent).map(async (gpu_id) => (await market.ask(null, api.gpus.get, { gpu_id })).status))
const earnings = async () => {
  const { items, total } = await market.ask(bob, api.payments.earnings, {})
  return { total, byGpu: new Map(items.map(({ gpu_id, amount, tasks }) => [gpu_id, [amount, tasks]])) }
}

test('a task gets two GPUs of one machine, pays both prices, and each earns its part', async () => {
  await machineAt('1')
  const agent = await machineAt('7.2', '3.6', '3.6')
  const [dear, first, second] = gpusOf(agent)
  const { id, hold, max_price_per_hour } = await market.submit(alice, { ...two, max_duration_ms: 3_600_000 })
  // The dearest two that fit.
  expect([max_price_per_hour, hold]).toEqual(['10.8', '10.8'])
  const start = await agent.begin()
  const uuids = new Map(agent.welcome.gpus.map(({ uuid, gpu_id }) => [uuid, gpu_id]))
  expect(start.devices).toMatchObject([
    { milli: 1_000, vram_mib: null },
    { milli: 1_000, vram_mib: null },
  ])
  expect(new Set(start.devices.map(({ uuid }) => uuids.get(uuid)))).toEqual(new Set([first, second]))
  expect(await statuses(agent)).toEqual(['available', 'in_use', 'in_use'])
  market.clock.advance(1_000)
  await agent.result(start, { run_ms: 1_000 })
  const task = await market.task(alice, id)
  expect(task).toMatchObject({
    status: 'completed',
    cost: '0.002',
    attempts: [{ price_per_hour: '7.2', cost: '0.002' }],
  })
  expect(task.attempts[0]!.gpus).toMatchObject([
    { gpu_id: task.gpu_id, milli: 1_000, vram_gb: null, price_per_hour: '3.6' },
    { milli: 1_000, vram_gb: null, price_per_hour: '3.6' },
  ])
  expect(await statuses(agent)).toEqual(['available', 'available', 'available'])
  expect(await earnings()).toEqual({
    total: '0.002',
    byGpu: new Map([
      [first, ['0.001', 1]],
      [second, ['0.001', 1]],
    ]),
  })
  const attemptsOf = async (gpu_id: string) =>
    (await market.ask(bob, api.gpus.attempts, { gpu_id })).items.map((attempt) => attempt.id)
  expect([await attemptsOf(first!), await attemptsOf(second!), await attemptsOf(dear!)]).toEqual([
    [start.attempt_id],
    [start.attempt_id],
    [],
  ])
})

test('each of its GPUs tells page by page what has run there', async () => {
  const agent = await machineAt('3.6', '3.6')
  const ids: string[] = []
  for (let count = 0; count < 3; count++) {
    ids.unshift((await market.submit(alice, two)).id)
    await agent.result(await agent.begin())
  }
  for (const gpu_id of gpusOf(agent)) {
    const newest = await market.ask(bob, api.gpus.attempts, { gpu_id, limit: 2 })
    const oldest = await market.ask(bob, api.gpus.attempts, { gpu_id, limit: 2, cursor: newest.next_cursor! })
    expect(oldest.next_cursor).toBeNull()
    const found = [newest, oldest].flatMap(({ items }) => items.map(({ task_id }) => task_id))
    expect(found).toEqual(ids)
  }
})

test('its maximum price is for all GPUs together, and so is what it may run for', async () => {
  const agent = await machineAt('3.6', '3.6')
  const tooLow = await market.attempt(alice, api.tasks.create, {
    ...two,
    task_type: 'other',
    input_data: {},
    max_price_per_hour: '7.1',
  })
  expect(outcome(tooLow)).toBe('409 no_gpu_fits')
  expect(tooLow.body).toMatchObject({ details: { rejections: among({ code: 'price_above_maximum', gpus: 2 }) } })
  await market.submit(alice, { ...two, max_price_per_hour: '7.2', max_cost: '0.0072' })
  expect((await agent.next('attempt.start')).duration_ms_max).toBe(3_600)
})

test('a machine with one GPU is not enough, nor are two machines, and the renter is told so', async () => {
  await machineAt('3.6')
  await machineAt('3.6')
  const answer = await market.attempt(alice, api.tasks.create, { ...two, task_type: 'other', input_data: {} })
  expect(outcome(answer)).toBe('409 no_gpu_fits')
  expect(answer.body).toMatchObject({
    details: {
      rejections: among({ code: 'gpus_too_few', gpus: 2 }),
      relaxations: [{ message: '1 GPU instead of 2', requirements: {}, gpus: 2, free: 2 }],
    },
  })
})

test('an agent that cannot use several GPUs for this is not asked', async () => {
  await market.machine(
    bob,
    [{}, {}].map(() => ({ several: { task_types: [], model_formats: [] } })),
  )
  const answer = await market.attempt(alice, api.tasks.create, { ...two, task_type: 'other', input_data: {} })
  expect(answer.body).toMatchObject({ details: { rejections: among({ code: 'several_not_possible', gpus: 2 }) } })
})

test('it waits until two are free at the same time, and takes both or neither', async () => {
  const agent = await machineAt('3.6', '3.6')
  await market.submit(alice)
  const one = await agent.begin()
  const { id } = await market.submit(alice, two)
  await agent.heartbeat()
  expect(agent.untaken('attempt.start')).toEqual([])
  expect(await market.task(alice, id)).toMatchObject({ status: 'pending', waiting: { code: 'gpu_in_use' } })
  await agent.result(one)
  expect((await agent.next('attempt.start')).devices).toHaveLength(2)
})

test('taking one of its GPUs back stops it, uncharged, and both are free for others', async () => {
  const agent = await machineAt('3.6', '3.6')
  const other = await machineAt('5', '5')
  const { id } = await market.submit(alice, two)
  const start = await agent.begin()
  market.clock.advance(1_000)
  const second = gpusOf(agent).find((gpuId) => gpuId !== gpusOf(agent)[0])!
  await market.ask(bob, api.gpus.reclaim, { gpu_id: second })
  expect(await agent.next('attempt.stop')).toMatchObject(agent.ref(start))
  await agent.result(start, { outcome: 'stopped', code: 'stopped' })
  const again = await other.begin()
  await other.result(again)
  expect(await market.task(alice, id)).toMatchObject({
    status: 'completed',
    attempts: [{ status: 'failed', cost: '0', end: { code: 'reclaimed' } }, { status: 'completed' }],
  })
  expect((await statuses(agent)).sort()).toEqual(['available', 'maintenance'])
})

test('where it fails, all of its GPUs cool down and are passed over for it', async () => {
  const agent = await machineAt('3.6', '3.6', '3.6', '3.6')
  const { id } = await market.submit(alice, two)
  const start = await agent.begin()
  await agent.result(start, { outcome: 'failed' })
  const again = await agent.next('attempt.start')
  const uuids = [...start.devices, ...again.devices].map(({ uuid }) => uuid)
  expect(new Set(uuids).size).toBe(4)
  const failed = agent.welcome.gpus.filter(({ uuid }) => start.devices.some((device) => device.uuid === uuid))
  for (const { gpu_id } of failed)
    expect(await market.ask(null, api.gpus.get, { gpu_id })).toMatchObject({ tasks_failed: 1, health: 'cooling_down' })
  expect((await market.task(alice, id)).attempts_count).toBe(1)
})

test('a GPU of which a task has only one of two cannot be deleted, and its owner’s account not closed', async () => {
  const agent = await machineAt('3.6', '3.6')
  await market.submit(alice, two)
  const start = await agent.begin()
  for (const gpu_id of gpusOf(agent))
    expect(outcome(await market.attempt(bob, api.gpus.delete, { gpu_id }))).toBe('409 gpu_in_use')
  await agent.result(start)
})

test('GPUs that cost more together than an amount can say are offered to nobody, and keep nobody from asking', async () => {
  const most = '9007199254'
  await machineAt(most, most)
  const estimate = await market.ask(alice, api.tasks.estimate, { ...two, task_type: 'other', input_data: {} })
  expect(estimate).toMatchObject({ fitting: 2, max_price_per_hour: '9007199254.740991' })
  const answer = await market.attempt(alice, api.tasks.create, { ...two, task_type: 'other', input_data: {} })
  expect(outcome(answer)).toMatch(/insufficient_funds/)
})

test('how many may be asked for, and with what else, is said before anything is held', async () => {
  const asked = async (requirements: object) => {
    const task = { task_type: 'other' as const, input_data: {}, requirements }
    return (await market.attempt(alice, api.tasks.create, task)).body as { code: string; errors: { field: string }[] }
  }
  for (const gpu_count of [0, 9, 1.5]) expect((await asked({ gpu_count })).code).toBe('invalid_request')
  const agent = await machineAt('3.6', '3.6')
  expect((await asked({ gpu_count: 2, gpu_id: agent.gpuId })).code).toBe('invalid_request')
  expect((await asked({ gpu_count: 2, gpu_milli: 500, min_vram_gb: 4 })).code).toBe('invalid_request')
})
