import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest'
import { api } from '@orbyte/protocol'
import type { ScriptedAgent } from '../agents/fixture-agent.ts'
import { type Market, startMarket } from '../fixture-market.ts'
import { outcome, type TestUser } from '../fixture-server.ts'

// Tasks that want a share of a GPU, on GPUs that their owners let several tasks share.

let market: Market
let alice: TestUser
let bob: TestUser
let agent: ScriptedAgent
beforeAll(async () => {
  market = await startMarket()
})
beforeEach(async () => {
  alice = await market.person('1000')
  bob = await market.person()
  agent = await market.machine(bob, [{ vram_mib: 24 * 1_024, shares, sharing: true }])
})
afterEach(() => market.clear())
afterAll(() => market.close())

/** Machines of earlier tests are offline. */
const among = (rejection: object): unknown => expect.arrayContaining([expect.objectContaining(rejection)])
const shares = { task_types: ['other' as const], model_formats: [] }
const share = (gpu_milli: number, min_vram_gb: number) => ({ requirements: { gpu_milli, min_vram_gb } })
const gpu = (of = agent) => market.ask(null, api.gpus.get, { gpu_id: of.gpuId })

test('several tasks run on shares of one GPU, each pays its own, and what is left is told', async () => {
  const quarter = await market.submit(alice, { ...share(250, 6), max_duration_ms: 3_600_000 })
  expect([quarter.max_price_per_hour, quarter.hold]).toEqual(['0.9', '0.9'])
  const first = await agent.begin()
  expect(first.devices).toMatchObject([{ milli: 250, vram_mib: 6 * 1_024 }])
  expect(await gpu()).toMatchObject({ status: 'in_use', sharing: true, free_milli: 750 })
  // The larger share counts, here of VRAM.
  const half = await market.submit(alice, share(100, 12))
  const second = await agent.begin()
  expect(second.devices).toMatchObject([{ milli: 500, vram_mib: 12 * 1_024 }])
  expect(await gpu()).toMatchObject({ free_milli: 250 })
  market.clock.advance(1_000)
  await agent.result(first, { run_ms: 1_000 })
  await agent.result(second, { run_ms: 1_000 })
  expect(await gpu()).toMatchObject({ status: 'available', free_milli: 1_000, tasks_completed: 2 })
  const [one, other] = [await market.task(alice, quarter.id), await market.task(alice, half.id)]
  expect([one.cost, other.cost]).toEqual(['0.00025', '0.0005'])
  expect(one.attempts[0]).toMatchObject({
    price_per_hour: '0.9',
    gpus: [{ gpu_id: agent.gpuId, milli: 250, vram_gb: 6, price_per_hour: '0.9' }],
  })
  expect((await market.ask(bob, api.payments.earnings, {})).total).toBe('0.00075')
})

test('no more is given out than there is: who finds too little left waits, and so does who wants all of it', async () => {
  const starts = []
  for (let count = 0; count < 3; count++) {
    await market.submit(alice, share(300, 1))
    starts.push(await agent.begin())
  }
  const small = await market.submit(alice, share(101, 1))
  const whole = await market.submit(alice)
  await agent.heartbeat()
  expect(agent.untaken('attempt.start')).toEqual([])
  expect(await market.task(alice, small.id)).toMatchObject({ waiting: { code: 'gpu_in_use' } })
  expect(await market.task(alice, whole.id)).toMatchObject({ waiting: { code: 'gpu_in_use' } })
  await agent.result(starts[0]!)
  const next = await agent.begin()
  expect(next.task_id).toBe(small.id)
  for (const start of [starts[1]!, starts[2]!, next]) await agent.result(start)
  expect((await agent.begin()).task_id).toBe(whole.id)
  expect(await gpu()).toMatchObject({ free_milli: 0 })
})

test('what is on offer to one is not offered to another, though nothing is reserved yet', async () => {
  await market.submit(alice, share(600, 1))
  const first = await agent.next('attempt.start')
  await market.submit(alice, share(600, 1))
  await market.submit(alice, share(400, 1))
  expect((await agent.next('attempt.start')).devices).toMatchObject([{ milli: 400 }])
  await agent.heartbeat()
  expect(agent.untaken('attempt.start')).toEqual([])
  expect(await gpu()).toMatchObject({ status: 'available', free_milli: 1_000 })
  await agent.refuse(first)
  expect((await agent.next('attempt.start')).devices).toMatchObject([{ milli: 600 }])
})

test('a GPU whose owner does not share it is offered to nobody who wants a share, until they do', async () => {
  await market.ask(bob, api.gpus.update, { gpu_id: agent.gpuId, sharing: false })
  const task = { task_type: 'other' as const, input_data: {}, ...share(250, 6) }
  const answer = await market.attempt(alice, api.tasks.create, task)
  expect(outcome(answer)).toBe('409 no_gpu_fits')
  expect(answer.body).toMatchObject({
    details: {
      rejections: among({ code: 'sharing_not_allowed', gpus: 1 }),
      relaxations: [{ message: 'a whole GPU instead of a share', requirements: { min_vram_gb: 6 }, gpus: 1 }],
    },
  })
  const { id } = await market.submit(alice, { ...share(250, 6), wait: true, max_price_per_hour: '1' })
  await market.ask(bob, api.gpus.update, { gpu_id: agent.gpuId, sharing: true })
  expect((await agent.next('attempt.start')).task_id).toBe(id)
})

test('an agent that cannot run this on a share is not asked', async () => {
  await market.ask(bob, api.gpus.update, { gpu_id: agent.gpuId, maintenance: true })
  await market.machine(bob, [{ sharing: true, shares: { task_types: ['text_generation'], model_formats: [] } }])
  const task = { task_type: 'other' as const, input_data: {}, ...share(250, 6) }
  const { body } = await market.attempt(alice, api.tasks.create, task)
  expect(body).toMatchObject({ details: { rejections: among({ code: 'share_not_possible' }) } })
})

test('taking the GPU back stops all that share it, uncharged, and counts as one failure in a row', async () => {
  const ids = []
  const starts = []
  for (let count = 0; count < 3; count++) {
    ids.push((await market.submit(alice, share(300, 1))).id)
    starts.push(await agent.begin())
  }
  market.clock.advance(1_000)
  await market.ask(bob, api.gpus.reclaim, { gpu_id: agent.gpuId })
  for (const start of starts) {
    await agent.next('attempt.stop')
    await agent.result(start, { outcome: 'stopped', code: 'stopped' })
  }
  for (const id of ids)
    expect(await market.task(alice, id)).toMatchObject({
      status: 'pending',
      attempts: [{ status: 'failed', cost: '0', end: { code: 'reclaimed' } }],
    })
  expect(await gpu()).toMatchObject({ status: 'maintenance', free_milli: 1_000, tasks_failed: 3 })
  market.clock.advance(30_000)
  expect(await gpu()).toMatchObject({ health: 'good' })
})

test('who uses more VRAM than their share pays for what they ran, and the others go on', async () => {
  const greedy = await market.submit(alice, share(300, 1))
  const first = await agent.begin()
  const modest = await market.submit(alice, share(300, 1))
  const second = await agent.begin()
  market.clock.advance(2_000)
  const exceeded = { outcome: 'failed', code: 'vram_exceeded', message: 'Too much.', fault: 'renter', run_ms: 1_000 }
  await agent.result(first, exceeded)
  expect(await market.task(alice, greedy.id)).toMatchObject({
    status: 'failed',
    cost: '0.0003',
    end: { code: 'vram_exceeded', decided_by: 'agent' },
  })
  expect(await gpu()).toMatchObject({ free_milli: 700, tasks_failed: 0, health: 'good' })
  await agent.result(second, { run_ms: 2_000 })
  expect(await market.task(alice, modest.id)).toMatchObject({ status: 'completed' })
})

test('a share says how much VRAM it needs, and 1000 thousandths are a whole GPU', async () => {
  const task = { task_type: 'other' as const, input_data: {} }
  const without = await market.attempt(alice, api.tasks.create, { ...task, requirements: { gpu_milli: 250 } })
  expect(outcome(without)).toBe('400 invalid_request')
  await market.ask(bob, api.gpus.update, { gpu_id: agent.gpuId, sharing: false })
  await market.submit(alice, share(1_000, 6))
  expect((await agent.next('attempt.start')).devices).toMatchObject([{ milli: 1_000, vram_mib: null }])
})

test('the owner is told that tasks want a share, where the GPU is offered only as a whole', async () => {
  const whole = await market.machine(bob, [{ vram_mib: 24 * 1_024, shares }])
  await market.submit(alice, share(250, 6))
  await agent.begin()
  const explained = await market.ask(bob, api.gpus.explain, { gpu_id: whole.gpuId })
  expect(explained.lost).toContainEqual(expect.objectContaining({ code: 'sharing_not_allowed' }))
})
