import { createHash } from 'node:crypto'
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest'
import { api } from '@orbyte/protocol'
import type { ScriptedAgent, Start } from '../agents/fixture-agent.ts'
import { type Market, startMarket } from '../fixture-market.ts'
import type { TestUser } from '../fixture-server.ts'

// Each phase of a task has its own limit, with its own code, and none of them lets anybody pay for nothing.

let market: Market
let alice: TestUser
let bob: TestUser
let first: ScriptedAgent
let second: ScriptedAgent
beforeAll(async () => {
  market = await startMarket()
})
beforeEach(async () => {
  alice = await market.person('100')
  bob = await market.person()
  const model_formats = ['gguf', 'tinyimg-onnx']
  first = await market.machine(bob, [{ price_per_hour: '3.6', model_formats }])
  second = await market.machine(bob, [{ price_per_hour: '7.2', model_formats }])
})
afterEach(() => market.clear())
afterAll(() => market.close())

const text = (fields = {}) =>
  market.submit(alice, { task_type: 'text_generation', input_data: { prompt: 'Once upon a time' }, ...fields })

/** Time passes, and both agents are heard from: `runs` says what they say of what runs. */
async function pass(seconds: number, runs: { start: Start; run_ms: number }[] = []) {
  for (let left = seconds; left > 0; left -= 10) {
    market.clock.advance(Math.min(left, 10) * 1_000)
    await Promise.all([first.heartbeat(runs), second.heartbeat()])
  }
}

/** The first attempt ended by this, uncharged, and the task is offered to the other GPU. */
async function isTriedElsewhere(taskId: string, start: Start, end: object) {
  expect(await first.next('attempt.stop')).toMatchObject(first.ref(start))
  expect(await second.next('attempt.start')).toMatchObject({ task_id: taskId })
  const [attempt] = (await market.task(alice, taskId)).attempts
  expect(attempt).toMatchObject({ cost: '0', run_ms: 0, end: { decided_by: 'platform', ...end } })
}

test('accept: who does not answer in 5 s is passed over, and cools down before it is asked again', async () => {
  const { id } = await text()
  const start = await first.next('attempt.start')
  market.clock.advance(5_000)
  await isTriedElsewhere(id, start, { code: 'accept_timeout', message: 'The agent did not answer in time.' })
  expect(await market.ask(null, api.gpus.get, { gpu_id: first.gpuId })).toMatchObject({
    health: 'cooling_down',
    tasks_failed: 0,
  })
})

test('prepare: who is not ready in an hour has failed', async () => {
  const { id } = await text()
  const start = await first.next('attempt.start')
  await first.accept(start)
  await first.preparing(start, 'fetching 1 %')
  await pass(3_600)
  await isTriedElsewhere(id, start, {
    code: 'prepare_timeout',
    message: 'The GPU did not get ready in 3600 s.',
  })
})

test('first output: text that does not begin in two minutes is tried elsewhere, uncharged', async () => {
  const { id } = await text()
  const start = await first.begin()
  await pass(119, [{ start, run_ms: 119_000 }])
  expect(await market.task(alice, id)).toMatchObject({ status: 'running' })
  await pass(1)
  await isTriedElsewhere(id, start, {
    code: 'no_output',
    message: 'It had run for 120 s and put out nothing.',
  })
})

test('first output: text that has begun may take its time, and a task that does not stream may be silent', async () => {
  const { id } = await text()
  const start = await first.begin()
  await first.output(start, 0, 'Once', 1_000)
  const other = await market.submit(alice)
  await second.begin()
  await pass(300, [{ start, run_ms: 300_000 }])
  for (const task of [id, other.id]) expect(await market.task(alice, task)).toMatchObject({ status: 'running' })
})

test('first output: an agent that has lost its connection meanwhile may still bring it', async () => {
  const { id } = await text()
  const start = await first.begin()
  await pass(90, [{ start, run_ms: 90_000 }])
  await first.disconnect()
  market.clock.advance(40_000)
  expect(await market.task(alice, id)).toMatchObject({ status: 'running' })
  const held = { attempt_id: start.attempt_id, fencing_token: start.fencing_token, status: 'running', run_ms: 130_000 }
  first = await market.reconnect(first, { attempts: [held] })
  await first.output(start, 0, 'Once', 20_000)
  await pass(60)
  expect(await market.task(alice, id)).toMatchObject({ status: 'running' })
})

test('run: text that comes until the maximum is charged for it; a picture of which nothing has come is not', async () => {
  const { id } = await text({ max_duration_ms: 60_000 })
  const start = await first.begin()
  await first.output(start, 0, 'On and on', 1_000)
  const picture = { task_type: 'image_generation' as const, input_data: { prompt: 'a red circle' } }
  const silent = await market.submit(alice, { ...picture, max_duration_ms: 60_000 })
  await second.begin()
  await pass(100, [{ start, run_ms: 60_000 }])
  expect(await market.task(alice, id)).toMatchObject({
    status: 'failed',
    cost: '0.06',
    end: { code: 'max_duration', message: 'It ran longer than the 60 s that it may.' },
  })
  const [attempt] = (await market.task(alice, silent.id)).attempts
  expect(attempt).toMatchObject({
    status: 'failed',
    cost: '0',
    end: { code: 'no_output', message: 'It ran for the 60 s that it may and put out nothing.' },
  })
})

test('run: an agent that says that the renter is at fault is paid nothing where nothing has come of it', async () => {
  const { id } = await text()
  const start = await first.begin()
  await pass(100)
  await first.result(start, { outcome: 'failed', fault: 'renter', run_ms: 100_000, code: 'input_refused' })
  expect(await market.task(alice, id)).toMatchObject({ status: 'failed', cost: '0', end: { code: 'input_refused' } })
  const again = await text()
  const begun = await first.begin()
  await pass(60)
  await first.result(begun, { outcome: 'failed', fault: 'renter', run_ms: 60_000, code: 'max_duration' })
  await second.accept(await second.next('attempt.start'))
  expect((await market.task(alice, again.id)).attempts).toMatchObject([
    { status: 'failed', cost: '0', end: { code: 'no_output' } },
    { status: 'accepted' },
  ])
})

const bytes = Buffer.from('the first half and the second half')
const part = (start: Start, from: number, to: number) => ({
  type: 'attempt.file',
  ...first.ref(start),
  ...{ name: 'result.txt', mime_type: 'text/plain', size_bytes: bytes.length, run_ms: 1_000 },
  ...{ sha256: createHash('sha256').update(bytes).digest('hex'), offset: from },
  data: bytes.subarray(from, to).toString('base64'),
})

test('upload: a file that has begun to arrive is here in ten minutes, or its provider has failed', async () => {
  const { id } = await market.submit(alice)
  const start = await first.begin()
  await first.report(part(start, 0, 10))
  await pass(599)
  expect(await market.task(alice, id)).toMatchObject({ status: 'running' })
  await pass(1)
  await isTriedElsewhere(id, start, {
    code: 'upload_timeout',
    message: 'The rest of result.txt did not arrive in 600 s.',
  })
})

test('upload: a file that is whole, also one that is sent again, keeps nobody waiting', async () => {
  const { id } = await market.submit(alice)
  const start = await first.begin()
  await first.report(part(start, 0, 10))
  await first.report(part(start, 10, bytes.length))
  await first.report(part(start, 0, 10))
  await pass(1_200)
  expect(await market.task(alice, id)).toMatchObject({ status: 'running' })
})

test('upload: a result that an agent says it has is here in ten minutes, or its provider has failed', async () => {
  const { id } = await market.submit(alice)
  const start = await first.begin()
  await first.disconnect()
  const held = { attempt_id: start.attempt_id, fencing_token: start.fencing_token, status: 'ended', run_ms: 10 }
  first = await market.reconnect(first, { attempts: [held] })
  await pass(600)
  await isTriedElsewhere(id, start, {
    code: 'upload_timeout',
    message: 'The result that its agent has did not arrive in 600 s.',
  })
})

test('match: a task that finds no GPU in its time ends, and says what to change', async () => {
  const { id } = await text({ wait: true, max_price_per_hour: '1', max_wait_ms: 60_000 })
  await pass(80)
  const ended = await market.until(
    () => market.task(alice, id),
    ({ status }) => status !== 'pending',
  )
  expect(ended).toMatchObject({
    status: 'failed',
    cost: '0',
    end: { code: 'no_gpu_found', decided_by: 'platform', message: expect.stringContaining('Raise the maximum price') },
  })
})
