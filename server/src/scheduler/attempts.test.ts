import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest'
import { api } from '@orbyte/protocol'
import { type Market, startMarket } from '../fixture-market.ts'
import type { TestUser } from '../fixture-server.ts'

let market: Market
let alice: TestUser
let bob: TestUser
beforeAll(async () => {
  market = await startMarket()
})
beforeEach(async () => {
  alice = await market.person('100')
  bob = await market.person()
})
afterEach(() => market.clear())
afterAll(() => market.close())

/** Machines, the cheapest first, so that they are asked in this order. */
async function machines(count: number) {
  const agents = []
  for (let index = 0; index < count; index++)
    agents.push(await market.machine(bob, [{ price_per_hour: String(3.6 + index) }]))
  return agents
}

test('a GPU that refuses is passed over: the next one is asked, and nothing counts as an attempt', async () => {
  const [first, second] = await machines(2)
  const { id } = await market.submit(alice)
  await first!.refuse(await first!.next('attempt.start'), 'model_missing')
  await second!.accept(await second!.next('attempt.start'))
  const task = await market.task(alice, id)
  expect(task).toMatchObject({ status: 'running', gpu_id: second!.gpuId, attempts_count: 1 })
  expect(task.attempts).toMatchObject([
    { number: 1, status: 'refused', end: { code: 'model_missing', decided_by: 'agent' } },
    { number: 2, status: 'accepted', end: null },
  ])
})

test('a GPU that refuses every time is asked again after a cool-down that doubles, each time with a number of its own', async () => {
  const [only] = await machines(1)
  const { id } = await market.submit(alice)
  const waitedSeconds = []
  for (let refusals = 0; refusals < 5; refusals++) {
    await only!.refuse(await only!.next('attempt.start'))
    expect(await market.task(alice, id)).toMatchObject({ status: 'pending', waiting: { code: 'failed_this_task' } })
    let seconds = 0
    for (; only!.untaken('attempt.start').length === 0 && seconds < 1_000; seconds += 10) {
      market.clock.advance(10_000)
      await only!.heartbeat()
    }
    waitedSeconds.push(seconds)
  }
  expect(waitedSeconds).toEqual([30, 60, 120, 240, 480])
  await only!.accept(await only!.next('attempt.start'))
  const { attempts } = await market.task(alice, id)
  expect(attempts.map(({ number, status }) => [number, status])).toEqual([
    ...[1, 2, 3, 4, 5].map((number) => [number, 'refused']),
    [6, 'accepted'],
  ])
})

test('a GPU whose agent does not answer in time is passed over, and told to leave it', async () => {
  const [silent, second] = await machines(2)
  const { id } = await market.submit(alice)
  const start = await silent!.next('attempt.start')
  market.clock.advance(5_000)
  expect(await silent!.next('attempt.stop')).toMatchObject(silent!.ref(start))
  const again = await second!.next('attempt.start')
  await silent!.accept(start)
  await silent!.ready(start)
  await second!.accept(again)
  expect(await market.task(alice, id)).toMatchObject({
    status: 'running',
    gpu_id: second!.gpuId,
    attempts: [{ status: 'refused', end: { code: 'accept_timeout' } }, { status: 'accepted' }],
  })
})

test('who accepts for a GPU that was deleted meanwhile is told so', async () => {
  const [agent] = await machines(1)
  const { id } = await market.submit(alice)
  const start = await agent!.next('attempt.start')
  await agent!.report({ type: 'devices', devices: [] })
  await market.ask(bob, api.gpus.delete, { gpu_id: agent!.gpuId })
  await agent!.accept(start)
  expect(await agent!.next('attempt.stop')).toMatchObject({ reason: 'The GPU was removed from the market meanwhile.' })
  expect(await market.task(alice, id)).toMatchObject({
    status: 'pending',
    attempts: [{ status: 'refused', end: { code: 'gpu_removed', decided_by: 'provider' } }],
  })
})

test('a result of what was never accepted is a refusal', async () => {
  const [first, second] = await machines(2)
  const { id } = await market.submit(alice)
  await first!.result(await first!.next('attempt.start'), { outcome: 'failed', fault: 'renter' })
  await second!.accept(await second!.next('attempt.start'))
  expect(await market.task(alice, id)).toMatchObject({
    status: 'running',
    attempts_count: 1,
    attempts: [{ status: 'refused', end: { code: 'broken' } }, { status: 'accepted' }],
  })
})

test('what fails by the provider’s fault is tried elsewhere, uncharged, and the GPU cools down', async () => {
  const [first, second] = await machines(2)
  const { id } = await market.submit(alice)
  const start = await first!.begin()
  market.clock.advance(10_000)
  await first!.result(start, { outcome: 'failed', run_ms: 10_000, code: 'out_of_memory', message: 'No memory.' })
  const again = await second!.begin()
  market.clock.advance(1_000)
  await second!.result(again, { run_ms: 1_000 })
  const task = await market.task(alice, id)
  expect(task).toMatchObject({ status: 'completed', cost: '0.001278', attempts_count: 2 })
  expect(task.attempts).toMatchObject([
    { status: 'failed', cost: '0', run_ms: 0, end: { code: 'out_of_memory' } },
    { status: 'completed', cost: '0.001278' },
  ])
  const [failed, worked] = await Promise.all(
    [first!, second!].map(({ gpuId }) => market.ask(null, api.gpus.get, { gpu_id: gpuId })),
  )
  expect([failed!.tasks_failed, worked!.tasks_completed]).toEqual([1, 1])
  const next = await market.submit(alice)
  expect(await second!.next('attempt.start')).toMatchObject({ task_id: next.id })
})

test('after three attempts that providers have failed, the task fails and costs nothing', async () => {
  const agents = await machines(4)
  const { id } = await market.submit(alice)
  for (const agent of agents.slice(0, 3)) {
    const start = await agent.begin()
    market.clock.advance(1_000)
    await agent.result(start, { outcome: 'failed', run_ms: 1_000, message: 'Driver lost.' })
  }
  const task = await market.task(alice, id)
  expect(task).toMatchObject({
    status: 'failed',
    cost: '0',
    payment_id: null,
    end: { code: 'attempts_exhausted', decided_by: 'platform' },
  })
  expect(task.end!.message).toContain('Driver lost.')
  expect(task.attempts.map(({ end }) => end!.code)).toEqual(['broken', 'broken', 'broken'])
  expect(new Set(task.attempts.map(({ gpu_id }) => gpu_id)).size).toBe(3)
  expect([await market.balance(alice), await market.balance(bob)]).toEqual(['100', '0'])
  await agents[3]!.heartbeat()
  expect(agents[3]!.untaken('attempt.start')).toEqual([])
})

test('what fails by the renter’s fault is charged for the time that it ran, and not tried again', async () => {
  const [first, second] = await machines(2)
  const { id } = await market.submit(alice)
  const start = await first!.begin()
  market.clock.advance(2_000)
  await first!.result(start, {
    outcome: 'failed',
    fault: 'renter',
    run_ms: 1_500,
    code: 'exit_code',
    message: 'It exited with 1.',
  })
  expect(await market.task(alice, id)).toMatchObject({ status: 'failed', cost: '0.0015', end: { code: 'exit_code' } })
  expect(await market.balance(bob)).toBe('0.0015')
  expect(await market.ask(null, api.gpus.get, { gpu_id: first!.gpuId })).toMatchObject({
    tasks_failed: 0,
    status: 'available',
  })
  expect(second!.untaken('attempt.start')).toEqual([])
})

test('the price of an attempt is frozen when it starts', async () => {
  const [agent] = await machines(1)
  const { id } = await market.submit(alice)
  const start = await agent!.begin()
  await market.ask(bob, api.gpus.update, { gpu_id: agent!.gpuId, price_per_hour: '36' })
  expect(await agent!.next('gpus')).toMatchObject({ gpus: [{ gpu_id: agent!.gpuId, price_per_hour: 36_000_000 }] })
  market.clock.advance(1_000)
  await agent!.result(start, { run_ms: 1_000 })
  expect(await market.task(alice, id)).toMatchObject({ cost: '0.001', attempts: [{ price_per_hour: '3.6' }] })
})

test('an agent that claims more run time than has passed is paid for what has passed', async () => {
  const [agent] = await machines(1)
  const { id } = await market.submit(alice)
  const start = await agent!.next('attempt.start')
  await agent!.accept(start)
  market.clock.advance(60_000)
  await agent!.ready(start)
  market.clock.advance(300)
  await agent!.result(start, { run_ms: 999_999_999 })
  expect(await market.task(alice, id)).toMatchObject({ run_ms: 300, cost: '0.0003' })
})

test('a tick that claims too much is kept as what has passed', async () => {
  const [agent] = await machines(1)
  const { id } = await market.submit(alice)
  const start = await agent!.begin()
  market.clock.advance(700)
  await agent!.heartbeat([{ start, run_ms: 10_000 }])
  expect((await market.task(alice, id)).attempts[0]!.run_ms).toBe(700)
  await market.ask(alice, api.tasks.cancel, { task_id: id })
  expect(await market.task(alice, id)).toMatchObject({ cost: '0.0007' })
})

test('a run that its agent does not end at its maximum is ended by the market, charged for the maximum', async () => {
  const [agent] = await machines(1)
  const { id } = await market.submit(alice, { max_duration_ms: 2_000 })
  const start = await agent!.begin()
  for (let seconds = 0; seconds < 33; seconds += 11) {
    market.clock.advance(11_000)
    await agent!.heartbeat([{ start, run_ms: seconds * 1_000 }])
  }
  expect(await agent!.next('attempt.stop')).toMatchObject(agent!.ref(start))
  expect(await market.task(alice, id)).toMatchObject({ status: 'failed', cost: '0.002', end: { code: 'max_duration' } })
})

test('an attempt that does not get ready in an hour is tried elsewhere', async () => {
  const [slow, second] = await machines(2)
  const { id } = await market.submit(alice)
  const start = await slow!.next('attempt.start')
  await slow!.accept(start)
  await slow!.preparing(start, 'fetching 1 %')
  for (let minutes = 0; minutes < 60; minutes++) {
    market.clock.advance(60_000)
    await Promise.all([slow!.heartbeat(), second!.heartbeat()])
  }
  expect(await slow!.next('attempt.stop')).toMatchObject(slow!.ref(start))
  await second!.accept(await second!.next('attempt.start'))
  expect((await market.task(alice, id)).attempts).toMatchObject([
    { status: 'failed', end: { code: 'prepare_timeout' }, cost: '0' },
    { status: 'accepted' },
  ])
})

test('an owner who takes a GPU back stops what runs on it: uncharged, and tried elsewhere', async () => {
  const [first, second] = await machines(2)
  const { id } = await market.submit(alice)
  const start = await first!.begin()
  market.clock.advance(5_000)
  await market.ask(bob, api.gpus.reclaim, { gpu_id: first!.gpuId })
  expect(await first!.next('attempt.stop')).toMatchObject(first!.ref(start))
  await second!.accept(await second!.next('attempt.start'))
  await first!.result(start, { outcome: 'stopped', run_ms: 5_000 })
  expect((await market.ask(null, api.gpus.get, { gpu_id: first!.gpuId })).status).toBe('maintenance')
  expect((await market.task(alice, id)).attempts).toMatchObject([
    { status: 'failed', cost: '0', end: { code: 'reclaimed', decided_by: 'provider' } },
    { status: 'accepted' },
  ])
})

test('a GPU that is taken back while it is asked does not get the task, however its agent answers', async () => {
  const [first, second] = await machines(2)
  const { id } = await market.submit(alice, { requirements: { gpu_id: first!.gpuId } })
  const start = await first!.next('attempt.start')
  await market.ask(bob, api.gpus.reclaim, { gpu_id: first!.gpuId })
  expect(await first!.next('attempt.stop')).toMatchObject(first!.ref(start))
  await first!.accept(start)
  await first!.ready(start)
  expect((await market.ask(null, api.gpus.get, { gpu_id: first!.gpuId })).status).toBe('maintenance')
  expect(await market.task(alice, id)).toMatchObject({
    status: 'pending',
    attempts: [{ status: 'refused', cost: '0', end: { code: 'reclaimed', decided_by: 'provider' } }],
  })
  expect(second!.untaken('attempt.start')).toEqual([])
})

test('a task that finds no GPU in the time that it waits fails, and its money is free again', async () => {
  const { id } = await market.submit(alice, { wait: true, max_price_per_hour: '1', max_wait_ms: 60_000 })
  market.clock.advance(59_000)
  expect(await market.task(alice, id)).toMatchObject({ status: 'pending' })
  const ended = await market.until(
    async () => {
      market.clock.advance(1_000)
      return market.task(alice, id)
    },
    ({ status }) => status !== 'pending',
  )
  expect(ended).toMatchObject({ status: 'failed', cost: '0', end: { code: 'no_gpu_found', decided_by: 'platform' } })
  expect([await market.balance(alice), await market.held(alice)]).toEqual(['100', '0'])
  const agent = await market.machine(bob, [{ price_per_hour: '1' }])
  await agent.heartbeat()
  expect(agent.untaken('attempt.start')).toEqual([])
})

test('a task that was tried for longer than it was to wait may wait as long again', async () => {
  const [only] = await machines(1)
  const { id } = await market.submit(alice, { max_wait_ms: 60_000 })
  const start = await only!.begin()
  const pass = async (seconds: number) => {
    for (let passed = 0; passed < seconds; passed += 10) {
      market.clock.advance(10_000)
      await only!.heartbeat([{ start, run_ms: 0 }])
    }
  }
  await pass(70)
  await only!.result(start, { outcome: 'failed' })
  await pass(20)
  expect(await market.task(alice, id)).toMatchObject({ status: 'pending', waiting: { code: 'cooling_down' } })
  await pass(10)
  await only!.result(await only!.begin())
  expect(await market.task(alice, id)).toMatchObject({ status: 'completed', attempts_count: 2 })
})

test('an agent that dies before the maximum of its task is not paid for time after its death', async () => {
  const both = await machines(2)
  const starts = both.map((agent) => agent.next('attempt.start'))
  const { id } = await market.submit(alice, { max_duration_ms: 60_000 })
  const asked = await Promise.race(starts.map((start, index) => start.then(() => index)))
  const [agent, other, start] = [both[asked]!, both[1 - asked]!, await starts[asked]!]
  await agent.accept(start)
  await agent.ready(start)
  market.clock.advance(2_000)
  await agent.heartbeat([{ start, run_ms: 2_000 }])
  await agent.disconnect()
  for (let seconds = 0; seconds < 90; seconds += 5) {
    market.clock.advance(5_000)
    await other.heartbeat()
  }
  const again = await starts[1 - asked]!
  await other.accept(again)
  await other.ready(again)
  market.clock.advance(3)
  await other.result(again, { run_ms: 3 })
  const task = await market.task(alice, id)
  expect(task).toMatchObject({ status: 'completed', run_ms: 3, attempts_count: 2 })
  expect(task.attempts).toMatchObject([{ status: 'lost', cost: '0' }, { status: 'completed' }])
})
