import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest'
import { api } from '@orbyte/protocol'
import { type Market, startMarket } from '../fixture-market.ts'
import { outcome, type TestUser } from '../fixture-server.ts'

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

const cancel = (user: TestUser, task_id: string) => market.attempt(user, api.tasks.cancel, { task_id })

test('a task runs, and what it ran for moves from the renter to the provider, to the micro-ORB', async () => {
  const agent = await market.machine(bob)
  const estimate = await market.ask(alice, api.tasks.estimate, { task_type: 'other', input_data: {} })
  expect(estimate).toMatchObject({
    fitting: 1,
    free: 1,
    max_price_per_hour: '3.6',
    hold: '3.6',
    price_per_minute: '0.06',
  })

  const submitted = await market.submit(alice, { input_data: { question: 6 } })
  expect(submitted).toMatchObject({ status: 'pending', hold: '3.6', cost: null })
  expect([await market.balance(alice), await market.held(alice)]).toEqual(['96.4', '3.6'])

  const start = await agent.next('attempt.start')
  expect(start).toMatchObject({ task_id: submitted.id, input: { question: 6 }, duration_ms_max: 3_600_000 })
  await agent.accept(start)
  expect(await market.task(alice, submitted.id)).toMatchObject({
    status: 'running',
    gpu_id: agent.gpuId,
    started_at: null,
  })
  await agent.preparing(start, 'fetching 40 %')
  market.clock.advance(5_000)
  await agent.ready(start)
  await agent.output(start, 0, 'four', 20)
  await agent.log(start, 0, ['step 1', 'step 2'])
  market.clock.advance(1_500)
  await agent.result(start, { run_ms: 1_234, output_data: { answer: 42 } })

  const task = await market.task(alice, submitted.id)
  expect(task).toMatchObject({
    status: 'completed',
    cost: '0.001234',
    run_ms: 1_234,
    output_data: { answer: 42 },
    waiting: null,
  })
  expect(task.attempts).toMatchObject([{ number: 1, status: 'completed', cost: '0.001234', gpu_id: agent.gpuId }])
  expect(await market.ask(alice, api.payments.get, { payment_id: task.payment_id! })).toMatchObject({
    task_id: task.id,
    payer_id: alice.id,
    recipient_id: bob.id,
    status: 'completed',
    amount: '0.001234',
    fee: '0',
    run_ms: 1_234,
    price_per_hour: '3.6',
  })
  const wallets = [await market.balance(alice), await market.held(alice), await market.balance(bob)]
  expect(wallets).toEqual(['99.998766', '0', '0.001234'])
  const read = (what: string) => market.call(`GET /api/tasks/${task.id}/${what}`, { token: alice.token })
  expect([(await read('output')).body, (await read('logs')).body]).toEqual(['four', 'step 1\nstep 2\n'])
})

test('only its renter and an administrator see a task; the owner of a GPU sees what ran there, without the input', async () => {
  const agent = await market.machine(bob)
  const { id } = await market.submit(alice, { input_data: { secret: 'of Alice' } })
  const start = await agent.begin()
  await agent.result(start)
  for (const what of ['', '/output', '/logs', '/events', '/files/image.png'])
    expect(outcome(await market.call(`GET /api/tasks/${id}${what}`, { token: bob.token }))).toBe('404 not_found')
  expect(outcome(await cancel(bob, id))).toBe('404 not_found')
  expect(await market.task(await market.admin(), id)).toMatchObject({ id })
  const ran = await market.attempt(bob, api.gpus.attempts, { gpu_id: agent.gpuId })
  expect(ran.body).toMatchObject({ items: [{ task_id: id, status: 'completed' }] })
  expect(JSON.stringify(ran.body)).not.toContain('of Alice')
  expect(outcome(await market.attempt(alice, api.gpus.attempts, { gpu_id: agent.gpuId }))).toBe('403 forbidden')
})

test('the list shows one’s own tasks, newest first, by status and type, page by page', async () => {
  const agent = await market.machine(bob)
  const ids: string[] = []
  for (let count = 0; count < 5; count++) {
    market.clock.advance(1)
    ids.unshift((await market.submit(alice)).id)
  }
  await agent.accept(await agent.next('attempt.start'))
  const first = await market.ask(alice, api.tasks.list, { limit: 2 })
  const second = await market.ask(alice, api.tasks.list, { limit: 2, cursor: first.next_cursor! })
  const third = await market.ask(alice, api.tasks.list, { limit: 2, cursor: second.next_cursor! })
  expect([first, second, third].flatMap(({ items }) => items.map(({ id }) => id))).toEqual(ids)
  expect(third.next_cursor).toBeNull()
  expect((await market.ask(alice, api.tasks.list, { status: 'running' })).items).toHaveLength(1)
  const waiting = { status: 'pending', task_type: 'other', limit: 3 } as const
  const newest = await market.ask(alice, api.tasks.list, waiting)
  const oldest = await market.ask(alice, api.tasks.list, { ...waiting, cursor: newest.next_cursor! })
  expect([newest, oldest].map(({ items }) => items.map(({ id }) => id))).toEqual([ids.slice(0, 3), [ids[3]]])
  expect((await market.ask(alice, api.tasks.list, { ...waiting, task_type: 'embedding' })).items).toEqual([])
  expect((await market.ask(bob, api.tasks.list, { status: 'pending' })).items).toEqual([])
  expect((await market.ask(alice, api.tasks.list, { task_type: 'embedding' })).items).toEqual([])
  expect((await market.ask(bob, api.tasks.list, {})).items).toEqual([])
  expect(outcome(await market.attempt(alice, api.tasks.list, { cursor: 'made up' }))).toBe('400 invalid_cursor')
})

test('what ran on a GPU comes newest first, page by page', async () => {
  const agent = await market.machine(bob)
  const ids: string[] = []
  for (let count = 0; count < 5; count++) {
    ids.unshift((await market.submit(alice)).id)
    await agent.result(await agent.begin())
  }
  const found: string[] = []
  let cursor: string | null | undefined
  for (let pages = 0; pages < 3; pages++) {
    const query = { gpu_id: agent.gpuId, limit: 2, ...(cursor ? { cursor } : {}) }
    const page = await market.ask(bob, api.gpus.attempts, query)
    found.push(...page.items.map(({ task_id }) => task_id))
    cursor = page.next_cursor
  }
  expect([found, cursor]).toEqual([ids, null])
  const { next_cursor: other } = await market.ask(alice, api.tasks.list, { limit: 1 })
  for (const wrong of ['made up', other!])
    expect(outcome(await market.attempt(bob, api.gpus.attempts, { gpu_id: agent.gpuId, cursor: wrong }))).toBe(
      '400 invalid_cursor',
    )
})

test('a waiting task that is cancelled costs nothing, and nobody is asked for it again', async () => {
  const { id } = await market.submit(alice, { wait: true, max_price_per_hour: '1' })
  expect(await market.task(alice, id)).toMatchObject({ waiting: { code: 'no_gpu_fits' } })
  expect(await market.ask(alice, api.tasks.cancel, { task_id: id })).toMatchObject({
    status: 'cancelled',
    cost: '0',
    end: { code: 'cancelled', decided_by: 'renter' },
  })
  expect([await market.balance(alice), await market.held(alice)]).toEqual(['100', '0'])
  const agent = await market.machine(bob, [{ price_per_hour: '1' }])
  const other = await market.submit(alice)
  expect(await agent.next('attempt.start')).toMatchObject({ task_id: other.id })
})

test('an offer that is out is called back when its task is cancelled', async () => {
  const agent = await market.machine(bob)
  const { id } = await market.submit(alice)
  const start = await agent.next('attempt.start')
  await cancel(alice, id)
  expect(await agent.next('attempt.stop')).toMatchObject(agent.ref(start))
  await agent.accept(start)
  await agent.ready(start)
  expect(await market.task(alice, id)).toMatchObject({ status: 'cancelled', cost: '0', attempts: [] })
  expect(await market.balance(alice)).toBe('100')
})

test('a running task that is cancelled is charged up to the last acknowledged report, and its GPU is free once the agent confirms', async () => {
  const agent = await market.machine(bob)
  const { id } = await market.submit(alice)
  const start = await agent.begin()
  market.clock.advance(4_000)
  await agent.heartbeat([{ start, run_ms: 3_000 }])
  market.clock.advance(2_000)
  expect(await market.ask(alice, api.tasks.cancel, { task_id: id })).toMatchObject({
    status: 'cancelled',
    cost: '0.003',
    run_ms: 3_000,
  })
  expect([await market.balance(alice), await market.held(alice), await market.balance(bob)]).toEqual([
    '99.997',
    '0',
    '0.003',
  ])
  expect(await agent.next('attempt.stop')).toMatchObject(agent.ref(start))

  const next = await market.submit(alice)
  expect((await market.ask(null, api.gpus.get, { gpu_id: agent.gpuId })).status).toBe('in_use')
  expect(await market.task(alice, next.id)).toMatchObject({ status: 'pending', waiting: { code: 'gpu_in_use' } })
  expect(await agent.heartbeat([{ start, run_ms: 6_000 }])).toMatchObject({ attempts: [] })
  await agent.result(start, { outcome: 'stopped', run_ms: 6_100 })
  expect(await agent.next('attempt.start')).toMatchObject({ task_id: next.id })
  expect(await market.task(alice, id)).toMatchObject({ status: 'cancelled', cost: '0.003' })
})

test('a GPU whose agent never confirms that it stopped is kept until it must have', async () => {
  const agent = await market.machine(bob)
  const { id } = await market.submit(alice)
  const start = await agent.begin()
  await cancel(alice, id)
  await market.submit(alice)
  for (let beats = 0; beats < 8; beats++) {
    market.clock.advance(10_000)
    await agent.heartbeat([{ start, run_ms: 0 }])
    expect((await market.ask(null, api.gpus.get, { gpu_id: agent.gpuId })).status).toBe('in_use')
  }
  market.clock.advance(10_000)
  expect(await agent.next('attempt.start')).toMatchObject({ devices: start.devices })
})

test('a task that has ended cannot be cancelled, and nothing changes', async () => {
  const agent = await market.machine(bob)
  const { id } = await market.submit(alice)
  market.clock.advance(100)
  await agent.result(await agent.begin())
  const before = await market.task(alice, id)
  expect(outcome(await cancel(alice, id))).toBe('409 task_finished')
  expect(await market.task(alice, id)).toEqual(before)
})

test('what a task worked on can be deleted once it has ended: its record and its payment stay', async () => {
  const agent = await market.machine(bob)
  const { id } = await market.submit(alice, { input_data: { private: 'letter' } })
  const start = await agent.begin()
  const erase = () => market.attempt(alice, api.tasks.deleteData, { task_id: id })
  expect(outcome(await erase())).toBe('409 task_not_finished')
  await agent.output(start, 0, 'dear')
  market.clock.advance(10)
  await agent.result(start, { run_ms: 10 })
  expect(outcome(await erase())).toBe('200')
  for (const what of ['output', 'logs', 'files/a.png'])
    expect(outcome(await market.call(`GET /api/tasks/${id}/${what}`, { token: alice.token }))).toBe(
      '410 output_deleted',
    )
  const task = await market.task(alice, id)
  expect(task).toMatchObject({ status: 'completed', input_data: null, output_data: null, files: [], cost: '0.00001' })
  expect(await market.ask(alice, api.payments.get, { payment_id: task.payment_id! })).toMatchObject({
    amount: '0.00001',
  })
})

test('results that have been kept for 30 days go by themselves', async () => {
  const agent = await market.machine(bob)
  const { id } = await market.submit(alice)
  await agent.result(await agent.begin())
  await agent.disconnect()
  market.clock.advance(30 * 86_400_000)
  const erased = await market.until(
    () => {
      market.clock.advance(60_000)
      return market.task(alice, id)
    },
    ({ output_data }) => output_data === null,
  )
  expect(erased).toMatchObject({ status: 'completed', input_data: null })
})
