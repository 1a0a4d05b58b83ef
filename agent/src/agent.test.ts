import { createPublicKey, verify } from 'node:crypto'
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { createMachine, type FixtureMachine, whole } from './fixture-machine.ts'

let machine: FixtureMachine
beforeEach(async () => {
  machine = await createMachine()
})
afterEach(() => machine.close())

test('an agent introduces itself with its key, its token and its devices', async () => {
  const agent = await machine.start()
  const [hello] = machine.market.all('hello')
  expect(hello).toMatchObject({ agent_token: 'secret', agent_version: '1.2.3', region: 'eu-west', attempts: [] })
  const key = createPublicKey({ key: { kty: 'OKP', crv: 'Ed25519', x: hello!.public_key }, format: 'jwk' })
  const signature = Buffer.from(hello!.signature, 'base64url')
  expect(verify(null, Buffer.from('orbyte-agent:nonce'), key, signature)).toBe(true)
  expect(hello!.devices).toMatchObject([
    { model: 'RTX 4090', kind: 'emulated', vram_mib: 24_576, task_types: ['other'], paused: false, index: 0 },
    { model: 'RTX 4090', index: 1 },
  ])
  expect(agent.status()).toMatchObject({
    connected: true,
    devices: [{ name: 'the RTX 4090', status: 'available', price_per_hour: '0.5' }, { status: 'available' }],
  })
})

test('heartbeats come every second while something runs, with telemetry and the time that it has run', async () => {
  await machine.start()
  const attempt = machine.offer({ input: { sleep_ms: 60_000 } })
  await machine.market.next('attempt.ready')
  await machine.clock.advance(1_000)
  const heartbeat = await machine.market.next('heartbeat')
  expect(heartbeat.attempts).toEqual([{ ...attempt, run_ms: 1_000 }])
  expect(heartbeat.devices).toHaveLength(2)
})

test('an attempt is accepted, run, metered and told, and forgotten when it is acknowledged', async () => {
  const { market, clock, dataPath } = machine
  await machine.start()
  market.acknowledges = false
  const files = [{ name: 'a.txt', text: 'x' }]
  const attempt = machine.offer({ input: { sleep_ms: 1_500, output: 'Hello world', chunks: 3, log: ['one'], files } })
  await market.next('attempt.ready')
  await clock.advance(2_000)
  const result = await market.next('attempt.result')
  expect(result).toMatchObject({ ...attempt, outcome: 'completed', run_ms: 1_500, fault: null })
  expect(result.output_data).toMatchObject({ text: 'Hello world' })
  expect(market.heard.map(({ type }) => type).filter((type) => type.startsWith('attempt.'))).toEqual([
    'attempt.accepted',
    'attempt.ready',
    'attempt.log',
    'attempt.output',
    'attempt.output',
    'attempt.output',
    'attempt.file',
    'attempt.result',
  ])
  expect(market.all('attempt.output').map(({ offset, text, run_ms }) => [offset, text, run_ms])).toEqual([
    [0, 'Hel', 500],
    [3, 'lo w', 1_000],
    [7, 'orld', 1_500],
  ])
  const results = async () => await readdir(join(dataPath, 'results')).catch(() => [])
  await until(async () => (await results()).length === 1)
  market.send({ type: 'ack', seq: result.seq })
  await until(async () => (await results()).length === 0)
})

test('a start that comes twice runs once, also after its end', async () => {
  const { market, clock } = machine
  await machine.start()
  const attempt = machine.offer({ input: { sleep_ms: 1_000 } })
  await market.next('attempt.ready')
  machine.offer({ ...attempt })
  await clock.advance(1_000)
  await market.next('attempt.result')
  machine.offer({ ...attempt })
  machine.offer()
  await market.next('attempt.result')
  expect(market.all('attempt.accepted')).toHaveLength(2)
  expect(market.all('attempt.refused')).toHaveLength(0)
})

test('two GPUs run at the same time, and one GPU never runs two', async () => {
  const { market } = machine
  await machine.start()
  const [first, second] = machine.devices()
  machine.offer({ devices: whole(first), input: { sleep_ms: 1_000 } })
  machine.offer({ devices: whole(second), input: { sleep_ms: 1_000 } })
  await market.next('attempt.ready')
  await market.next('attempt.ready')
  const late = machine.offer({ devices: whole(first) })
  expect(await market.next('attempt.refused')).toMatchObject({ ...late, code: 'gpu_busy' })
})

test('shares of a GPU are taken as long as there is room, and all of its GPUs are held by what has several', async () => {
  const { market } = machine
  const agent = await machine.start()
  const [first, second] = machine.devices()
  const shareOf = (milli: number) => [{ uuid: first, milli, vram_mib: 1_024 }]
  const input = { sleep_ms: 1_000 }
  machine.offer({ devices: shareOf(600), input })
  machine.offer({ devices: shareOf(400), input })
  await market.next('attempt.ready')
  await market.next('attempt.ready')
  expect(agent.status().devices).toMatchObject([
    { status: 'running', attempts: [{ milli: 600 }, { milli: 400 }] },
    { status: 'available', attempts: [] },
  ])
  for (const devices of [shareOf(1), [...whole(second), ...whole(first)]])
    expect(await refused(machine.offer({ devices }))).toBe('gpu_busy')
  await machine.clock.advance(1_000)
  await market.next('attempt.result')
  await market.next('attempt.result')
  machine.offer({ devices: [...whole(second), ...whole(first)], input })
  await market.next('attempt.ready')
  expect(agent.status().devices).toMatchObject([{ attempts: [{ milli: 1_000 }] }, { attempts: [{ milli: 1_000 }] }])
  for (const uuid of [first, second]) expect(await refused(machine.offer({ devices: whole(uuid) }))).toBe('gpu_busy')
})

async function refused({ attempt_id }: { attempt_id: string }): Promise<string> {
  const answer = await machine.market.next('attempt.refused')
  expect(answer.attempt_id).toBe(attempt_id)
  return answer.code
}

test('the market is told what can run on several GPUs and on shares, and whether the owner lets tasks share', async () => {
  await machine.start({ sharing: true })
  const [device] = machine.market.all('hello').at(-1)!.devices
  const abilities = { task_types: ['other'], model_formats: [] }
  expect(device).toMatchObject({ sharing: true, several: abilities, shares: abilities })
})

test.each([
  ['unknown_device', { devices: whole('elsewhere') }],
  ['unsupported', { task_type: 'container', input: { image: 'alpine:3' } }],
  ['invalid_input', { input: { ['x'.repeat(101)]: 1 } }],
  ['task_type_not_allowed', { task_type: 'embedding', input: { input: ['x'] } }],
  ['model_not_allowed', { input: { model: 'huge' } }],
  ['run_too_long', { duration_ms_max: 3_600_001 }],
] as const)('an attempt is refused with the code %s', async (code, changes) => {
  const limits = { models: ['small'], minPricePerHour: null, hours: null, runMsMax: 3_600_000 }
  await machine.start({ limits: { ...limits, taskTypes: ['other', 'container'] } })
  const attempt = machine.offer(changes)
  expect(await machine.market.next('attempt.refused')).toMatchObject({ ...attempt, code })
})

test('an owner’s minimum price and hours of the day are kept', async () => {
  const { market, clock } = machine
  const noLimits = { taskTypes: null, models: null, runMsMax: null }
  const hours = [{ fromMinute: minuteOf(clock.now()), toMinute: minuteOf(clock.now()) + 1 }]
  await machine.start({ limits: { ...noLimits, minPricePerHour: '0.6', hours } })
  machine.offer()
  expect(await market.next('attempt.refused')).toMatchObject({ code: 'price_too_low' })
  await clock.advance(60_000)
  expect((await market.next('devices')).devices).toMatchObject([{ paused: true }, { paused: true }])
  machine.offer()
  expect(await market.next('attempt.refused')).toMatchObject({ code: 'outside_hours' })
})

test('a cancelled attempt stops, and its meter with it', async () => {
  const { market, clock } = machine
  await machine.start()
  const attempt = machine.offer({ input: { sleep_ms: 60_000 } })
  await market.next('attempt.ready')
  await clock.advance(3_000)
  market.send({ type: 'attempt.stop', ...attempt, fencing_token: 'another', reason: 'not this one' })
  market.send({ type: 'attempt.stop', ...attempt, reason: 'cancelled by the renter' })
  const result = await market.next('attempt.result')
  expect(result).toMatchObject({ ...attempt, outcome: 'stopped', run_ms: 3_000, message: 'cancelled by the renter' })
})

test('an executor that does not stop keeps its GPU, and nothing else waits for it', async () => {
  const { market, clock } = machine
  await machine.start()
  const attempt = machine.offer({ input: { sleep_ms: 10_000, ignore_cancel: true } })
  await market.next('attempt.ready')
  market.send({ type: 'attempt.stop', ...attempt, reason: 'cancelled' })
  // Refused after the stop has arrived.
  machine.offer()
  await market.next('attempt.refused')
  await clock.advance(3_000)
  expect(await market.next('attempt.result')).toMatchObject({ outcome: 'stopped', run_ms: 0 })
  machine.offer()
  expect(await market.next('attempt.refused')).toMatchObject({ code: 'gpu_busy' })
  await clock.advance(10_000)
  machine.offer()
  await market.next('attempt.accepted')
})

test('a run ends at its maximum, and the renter’s work is at fault', async () => {
  const { market, clock } = machine
  await machine.start()
  machine.offer({ duration_ms_max: 2_000, input: { sleep_ms: 60_000, output: 'ab', chunks: 60 } })
  await market.next('attempt.ready')
  await clock.advance(2_000)
  const result = await market.next('attempt.result')
  expect(result).toMatchObject({ outcome: 'failed', code: 'max_duration', fault: 'renter', run_ms: 2_000 })
})

test('more output than a task may have ends it', async () => {
  const { market } = machine
  await machine.start()
  machine.offer({ output_bytes_max: 10, input: { output: 'x'.repeat(11) } })
  expect(await market.next('attempt.result')).toMatchObject({ code: 'output_too_large', fault: 'renter' })
  machine.offer({ output_bytes_max: 40, input: { files: [{ name: 'a.bin', text: 'x'.repeat(41) }] } })
  expect(await market.next('attempt.result')).toMatchObject({ code: 'output_too_large', fault: 'renter' })
  expect(market.all('attempt.file')).toEqual([])
})

test.each([
  ['out_of_memory', 'provider'],
  ['crash', 'provider'],
  ['renter_error', 'renter'],
])('a failure by %s is told with whose fault it was', async (fail, fault) => {
  await machine.start()
  machine.offer({ input: { fail } })
  expect(await machine.market.next('attempt.result')).toMatchObject({ outcome: 'failed', fault, output_data: null })
})

test('an agent without a GPU says so and what to do', async () => {
  const agent = machine.startOnly({}, { detectors: () => [] })
  expect(await agent.ended).toMatchObject({ reason: 'failed', message: expect.stringContaining('--cpu') })
})

async function until(condition: () => Promise<boolean>): Promise<void> {
  while (!(await condition())) await new Promise((resolve) => setImmediate(resolve))
}

function minuteOf(timeMs: number): number {
  const time = new Date(timeMs)
  return time.getHours() * 60 + time.getMinutes()
}
