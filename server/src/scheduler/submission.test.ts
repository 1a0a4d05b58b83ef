import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest'
import { api, type InputOf, type Problem } from '@orbyte/protocol'
import { type Market, startMarket } from '../fixture-market.ts'
import { outcome, type TestUser } from '../fixture-server.ts'

let market: Market
let alice: TestUser
let bob: TestUser
beforeAll(async () => {
  market = await startMarket({ limits: { pendingTasksPerUserMax: 3, pendingInputBytesPerUserMax: 100_000 } })
})
beforeEach(async () => {
  alice = await market.person('100')
  bob = await market.person()
})
afterEach(() => market.clear())
afterAll(() => market.close())

type NewTask = InputOf<typeof api.tasks.create>
const other = (fields: Partial<NewTask> = {}): NewTask => ({ task_type: 'other', input_data: {}, ...fields })
const submit = (fields: Partial<NewTask>) => market.attempt(alice, api.tasks.create, other(fields))

async function nothingWasStored() {
  expect((await market.ask(alice, api.tasks.list, {})).items).toEqual([])
  expect([await market.balance(alice), await market.held(alice)]).toEqual(['100', '0'])
}

test('a task cannot be queued without the money for it', async () => {
  const agent = await market.machine(bob, [{ price_per_hour: '200' }])
  const answer = await submit({})
  expect(outcome(answer)).toBe('402 insufficient_funds')
  expect((answer.body as Problem).details).toEqual({ needed: '200', balance: '100' })
  await nothingWasStored()
  expect(agent.untaken('attempt.start')).toEqual([])
})

test('the highest price for the longest time is more than anybody has, and no fault of the market', async () => {
  await market.machine(bob, [{ price_per_hour: '9007199254.740991', task_types: ['container'] }])
  const day = { task_type: 'container' as const, input_data: { image: 'x' } }
  const answer = await submit(day)
  expect(outcome(answer)).toBe('402 insufficient_funds')
  expect((await market.ask(alice, api.tasks.estimate, other(day))).hold).toBe('9007199254.740991')
  await nothingWasStored()
  expect(outcome(await submit({ ...day, max_cost: '1' }))).toBe('201')
})

test('a task that nothing fits is refused with the reasons, unless it wants to wait', async () => {
  await market.machine(bob, [
    { vram_mib: 8_192 },
    { price_per_hour: '50' },
    { task_types: ['embedding'] },
    { price_per_hour: '60' },
  ])
  const requirements = { min_vram_gb: 16 }
  const answer = await submit({ requirements, max_price_per_hour: '10' })
  expect(outcome(answer)).toBe('409 no_gpu_fits')
  const { rejections } = (answer.body as Problem).details as { rejections: { code: string; gpus: number }[] }
  const counts = Object.fromEntries(rejections.map(({ code, gpus }) => [code, gpus]))
  expect(counts).toMatchObject({ price_above_maximum: 2, task_type_not_offered: 1, vram_too_small: 1 })
  await nothingWasStored()
  const waiting = await market.submit(alice, { requirements, max_price_per_hour: '10', wait: true })
  expect(await market.task(alice, waiting.id)).toMatchObject({ status: 'pending', waiting: { code: 'no_gpu_fits' } })
})

test('a task that waits for a GPU that nobody has needs a price of its own', async () => {
  expect(outcome(await submit({ wait: true, requirements: { gpu_model: 'H200' } }))).toBe('422 price_required')
  await nothingWasStored()
  expect(outcome(await submit({ wait: true, requirements: { gpu_model: 'H200' }, max_price_per_hour: '2' }))).toBe(
    '201',
  )
  expect(await market.held(alice)).toBe('2')
})

test('a task that waits is offered the first GPU that fits when that appears', async () => {
  const { id } = await market.submit(alice, { wait: true, max_price_per_hour: '5' })
  await market.machine(bob, [{ price_per_hour: '6' }])
  const agent = await market.machine(bob, [{ price_per_hour: '5' }])
  expect(await agent.next('attempt.start')).toMatchObject({ task_id: id })
})

test('the default maximum price is the dearest that fits, and the cheapest is asked first', async () => {
  const dear = await market.machine(bob, [{ price_per_hour: '9' }])
  const cheap = await market.machine(bob, [{ price_per_hour: '1' }])
  const estimate = await market.ask(alice, api.tasks.estimate, other())
  expect(estimate).toMatchObject({ max_price_per_hour: '9', hold: '9', fitting: 2 })
  expect(estimate.offers.map(({ gpu_id }) => gpu_id)).toEqual([cheap.gpuId, dear.gpuId])
  const { id } = await market.submit(alice)
  await cheap.refuse(await cheap.next('attempt.start'))
  expect(await dear.next('attempt.start')).toMatchObject({ task_id: id })
})

test('no GPU above the maximum price is asked', async () => {
  const dear = await market.machine(bob, [{ price_per_hour: '3.600001' }])
  const fair = await market.machine(bob, [{ price_per_hour: '3.6' }])
  await market.submit(alice, { max_price_per_hour: '3.6' })
  await fair.refuse(await fair.next('attempt.start'))
  await fair.heartbeat()
  expect(dear.untaken('attempt.start')).toEqual([])
})

test('max_cost bounds what is held and how long the task may run', async () => {
  const agent = await market.machine(bob)
  const task = await market.submit(alice, { max_cost: '0.005' })
  expect(task.hold).toBe('0.005')
  const start = await agent.begin()
  expect(start.duration_ms_max).toBe(5_000)
  market.clock.advance(60_000)
  await agent.result(start, { run_ms: 60_000 })
  expect(await market.task(alice, task.id)).toMatchObject({ cost: '0.005', run_ms: 5_000 })
})

test('max_duration_ms bounds the run, and is not above the type’s maximum, which is its default', async () => {
  const agent = await market.machine(bob)
  expect((await market.submit(alice, { max_duration_ms: 2_000 })).hold).toBe('0.002')
  expect((await agent.next('attempt.start')).duration_ms_max).toBe(2_000)
  const long = await market.submit(alice, {})
  expect([long.max_duration_ms, long.hold]).toEqual([3_600_000, '3.6'])
  const longer = await submit({ max_duration_ms: 3_600_001 })
  expect(outcome(longer)).toBe('400 invalid_request')
  expect((longer.body as Problem).errors).toEqual([
    { field: 'max_duration_ms', message: expect.stringContaining('at most 3600000 ms') },
  ])
})

test('a batch is accepted whole or not at all, and a problem names its task', async () => {
  await market.machine(bob)
  const batch = (tasks: NewTask[]) => market.attempt(alice, api.tasks.createBatch, { tasks })
  const tooDear = await batch([other(), other({ max_price_per_hour: '99' })])
  expect(outcome(tooDear)).toBe('402 insufficient_funds')
  const bad = await batch([other(), { task_type: 'text_generation', input_data: { prompt: 'a', messages: [] } }])
  expect(outcome(bad)).toBe('400 invalid_request')
  expect((bad.body as Problem).errors!.every(({ field }) => field.startsWith('tasks.1.input_data'))).toBe(true)
  const none = await batch([other(), other({ requirements: { gpu_model: 'H200' } })])
  expect([outcome(none), (none.body as Problem).detail]).toEqual([
    '409 no_gpu_fits',
    expect.stringMatching(/^tasks\.1: /),
  ])
  await nothingWasStored()
  const good = await batch([other({ title: 'one' }), other({ title: 'two' })])
  expect(good.body).toMatchObject({
    items: [
      { title: 'one', hold: '3.6' },
      { title: 'two', hold: '3.6' },
    ],
  })
  expect(await market.held(alice)).toBe('7.2')
})

test('a user may have so many tasks waiting and no more, also when they come at once', async () => {
  const wait = { wait: true, max_price_per_hour: '1' }
  const answers = await Promise.all(Array.from({ length: 6 }, () => submit(wait)))
  expect(answers.map(outcome).sort()).toEqual([
    ...Array<string>(3).fill('201'),
    ...Array<string>(3).fill('429 too_many_pending_tasks'),
  ])
  const [waiting] = (await market.ask(alice, api.tasks.list, {})).items
  await market.ask(alice, api.tasks.cancel, { task_id: waiting!.id })
  expect(outcome(await submit(wait))).toBe('201')
})

test('the inputs of a user’s waiting tasks have so many bytes together and no more, also when they come at once', async () => {
  const wait = { wait: true, max_price_per_hour: '1', input_data: { text: 'ü'.repeat(20_000) } }
  const answers = await Promise.all([1, 2, 3].map(() => submit(wait)))
  expect(answers.map(outcome).sort()).toEqual(['201', '201', '429 too_many_pending_bytes'])
  const { detail, details } = answers.find(({ status }) => status === 429)!.body as Problem
  expect(detail).toContain('100000 bytes')
  expect(details).toEqual({ bytes: 3 * 40_011, bytes_max: 100_000 })
  expect(await market.held(alice)).toBe('2')
  const [waiting] = (await market.ask(alice, api.tasks.list, {})).items
  await market.ask(alice, api.tasks.cancel, { task_id: waiting!.id })
  expect(outcome(await submit(wait))).toBe('201')
})

test('a task that waits is told what is true for one that was submitted already', async () => {
  const { id } = await market.submit(alice, { wait: true, max_price_per_hour: '1', max_wait_ms: 60_000 })
  const until = new Date(market.clock.now() + 60_000).toISOString()
  const told = `It could run with +1 ORB an hour (1 GPU). It waits for one until ${until}. Cancel it and submit it anew to ask for less.`
  await market.machine(bob, [{ price_per_hour: '2' }])
  const { code, message } = (await market.task(alice, id)).waiting!
  expect(code).toBe('no_gpu_fits')
  expect(message).toMatch(/^None of the \d+ GPUs fits \(.*1: it costs more than 1 ORB an hour/)
  expect(message.slice(message.indexOf(').') + 3)).toBe(told)
})

test('input that does not fit its type names the field', async () => {
  const answer = await submit({
    task_type: 'text_generation',
    input_data: { prompt: 'a', max_tokens: 0, colour: 'red' },
  })
  expect(outcome(answer)).toBe('400 invalid_request')
  const fields = (answer.body as Problem).errors!.map(({ field }) => field)
  expect(fields.sort()).toEqual(['input_data.colour', 'input_data.max_tokens'])
  await nothingWasStored()
})

test('while the market is paused nothing new comes in and nothing starts, and then all goes on', async () => {
  const admin = await market.admin()
  const agent = await market.machine(bob)
  const { id } = await market.submit(alice, { wait: true, requirements: { min_vram_gb: 80 }, max_price_per_hour: '4' })
  await market.ask(admin, api.admin.pauseMarket, { reason: 'an upgrade' })
  const answer = await submit({})
  expect([outcome(answer), (answer.body as Problem).detail]).toEqual([
    '409 market_paused',
    expect.stringContaining('an upgrade'),
  ])
  expect((await market.task(alice, id)).waiting).toMatchObject({ code: 'market_paused' })
  const large = await market.machine(bob, [{ vram_mib: 90_000 }])
  await large.heartbeat()
  expect(large.untaken('attempt.start')).toEqual([])
  await market.ask(admin, api.admin.resumeMarket, {})
  expect(await large.next('attempt.start')).toMatchObject({ task_id: id })
  expect(agent.untaken('attempt.start')).toEqual([])
})
