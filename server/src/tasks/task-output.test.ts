import { createHash, randomBytes } from 'node:crypto'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { api } from '@orbyte/protocol'
import type { ScriptedAgent, Start } from '../agents/fixture-agent.ts'
import { type Market, startMarket } from '../fixture-market.ts'
import type { TestUser } from '../fixture-server.ts'

let market: Market
let alice: TestUser
let agent: ScriptedAgent
beforeAll(async () => {
  market = await startMarket({ limits: { outputBytesMax: 700_000, filesPerTaskMax: 4, logLinesPerTaskMax: 5 } })
})
beforeEach(async () => {
  alice = await market.person('100')
  agent = await market.machine(await market.person())
})
afterEach(() => market.clear())
afterAll(() => market.close())

const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex')
const chunkBytes = 200_000

async function begin(): Promise<{ id: string; start: Start }> {
  const { id } = await market.submit(alice)
  return { id, start: await agent.begin() }
}

/** The messages that carry a file. */
function chunksOf(start: Start, bytes: Buffer, fields: object = {}) {
  const count = Math.max(1, Math.ceil(bytes.length / chunkBytes))
  return Array.from({ length: count }, (_, index) => {
    const offset = index * chunkBytes
    const data = bytes.subarray(offset, offset + chunkBytes).toString('base64')
    const file = { name: 'image.png', mime_type: 'image/png', sha256: sha256(bytes), size_bytes: bytes.length }
    return { type: 'attempt.file', ...agent.ref(start), ...file, offset, data, run_ms: 0, ...fields }
  })
}

const read = (id: string, what: string) => market.call(`GET /api/tasks/${id}/${what}`, { token: alice.token })

describe('a file', () => {
  test('arrives in chunks and is downloaded whole, as an attachment that no page runs', async () => {
    const { id, start } = await begin()
    const bytes = randomBytes(500_000)
    for (const chunk of chunksOf(start, bytes)) void agent.report(chunk)
    await agent.result(start)
    const { files } = await market.task(alice, id)
    const url = `/api/tasks/${id}/files/image.png`
    expect(files).toEqual([
      { name: 'image.png', mime_type: 'image/png', size_bytes: 500_000, sha256: sha256(bytes), url },
    ])
    const download = await fetch(market.url + url, { headers: { authorization: `Bearer ${alice.token}` } })
    expect(sha256(new Uint8Array(await download.arrayBuffer()))).toBe(sha256(bytes))
    expect(Object.fromEntries(download.headers)).toMatchObject({
      'content-type': 'image/png',
      'content-disposition': 'attachment; filename="image.png"',
      'content-security-policy': 'sandbox',
      'x-content-type-options': 'nosniff',
    })
  })

  test('of no bytes is a file too', async () => {
    const { id, start } = await begin()
    for (const chunk of chunksOf(start, Buffer.alloc(0), { name: 'empty.txt', mime_type: 'text/plain' }))
      await agent.report(chunk)
    await agent.result(start)
    expect((await market.task(alice, id)).files).toMatchObject([{ name: 'empty.txt', size_bytes: 0 }])
  })

  test('is there once, whatever is sent again', async () => {
    const { id, start } = await begin()
    const chunks = chunksOf(start, randomBytes(500_000))
    for (const chunk of [chunks[0]!, chunks[1]!, chunks[0]!, chunks[1]!, chunks[2]!, chunks[2]!, chunks[2]!])
      await agent.report(chunk)
    await agent.result(start)
    const { status, files } = await market.task(alice, id)
    expect([status, files.length]).toEqual(['completed', 1])
    const events = (await read(id, 'events')).body as string
    expect(events.match(/event: file\.added/g)).toHaveLength(1)
  })

  test.for([
    ['with another hash', (chunks: object[]) => chunks.map((chunk) => ({ ...chunk, sha256: '0'.repeat(64) }))],
    ['with a chunk left out', (chunks: object[]) => [chunks[0]!, chunks[2]!]],
    ['with more than it has', (chunks: object[]) => chunks.map((chunk) => ({ ...chunk, size_bytes: 300_000 }))],
  ] as const)('%s is the provider’s fault: tried elsewhere, uncharged', async ([, change]) => {
    const { id, start } = await begin()
    market.clock.advance(1_000)
    for (const chunk of change(chunksOf(start, randomBytes(500_000)))) await agent.report(chunk as { type: string })
    expect(await market.task(alice, id)).toMatchObject({
      status: 'pending',
      attempts: [{ status: 'failed', cost: '0', end: { code: 'invalid_output' } }],
    })
    expect(await agent.next('attempt.stop')).toMatchObject(agent.ref(start))
  })

  test('that makes the output larger than it may be ends the task, charged for what ran', async () => {
    const { id, start } = await begin()
    market.clock.advance(250)
    await agent.heartbeat([{ start, run_ms: 250 }])
    await agent.report(chunksOf(start, randomBytes(400_000))[0]!)
    await agent.report(chunksOf(start, randomBytes(400_000), { name: 'second.png' })[0]!)
    expect(await market.task(alice, id)).toMatchObject({
      status: 'failed',
      end: { code: 'output_too_large' },
      cost: '0.00025',
    })
    expect(await agent.next('attempt.stop')).toMatchObject(agent.ref(start))
  })

  test('has the size that its first chunk said: one that claims less later does not get past the limit', async () => {
    const { id, start } = await begin()
    const [first, second] = chunksOf(start, randomBytes(500_000))
    for (const chunk of [first, second, { ...first!, size_bytes: 1, data: '' }]) await agent.report(chunk!)
    expect(await market.task(alice, id)).toMatchObject({
      status: 'pending',
      attempts: [{ status: 'failed', cost: '0', end: { code: 'invalid_output' } }],
    })
    const parts = await market.context.database.read((reader) => reader.all('SELECT * FROM task_file_parts'))
    expect(parts).toEqual([])
  })

  test('is one of so many and no more, even if they are empty', async () => {
    const { id, start } = await begin()
    for (let number = 1; number <= 5; number++)
      await agent.report(chunksOf(start, Buffer.alloc(0), { name: `${number}.txt` })[0]!)
    const task = await market.task(alice, id)
    expect(task).toMatchObject({ status: 'failed', end: { code: 'output_too_large' } })
    expect(task.end!.message).toContain('more than 4 files')
    expect(task.files).toHaveLength(4)
  })

  test.for(['file', 'part of a file', 'log'] as const)('a cancel after a %s is charged up to it', async (what) => {
    const { id, start } = await begin()
    market.clock.advance(250)
    if (what === 'log') await agent.log(start, 0, ['a line'], 200)
    else await agent.report(chunksOf(start, randomBytes(what === 'file' ? 1_000 : 500_000), { run_ms: 200 })[0]!)
    await market.ask(alice, api.tasks.cancel, { task_id: id })
    expect(await market.task(alice, id)).toMatchObject({ status: 'cancelled', run_ms: 200, cost: '0.0002' })
  })

  test.for([
    ['fails', 'failed', (start: Start) => agent.result(start, { outcome: 'failed', fault: 'renter' })],
    ['completes without it', 'completed', (start: Start) => agent.result(start)],
    [
      'has a GPU that fails',
      'pending',
      (start: Start) => agent.result(start, { outcome: 'failed', fault: 'provider' }),
    ],
    ['is cancelled', 'cancelled', (_: Start, id: string) => market.ask(alice, api.tasks.cancel, { task_id: id })],
  ] as const)('leaves no half of it behind where its task %s', async ([, status, end]) => {
    const { id, start } = await begin()
    // At once: neither waits for the other.
    await Promise.all([agent.report(chunksOf(start, randomBytes(500_000))[0]!), end(start, id)])
    expect(await market.task(alice, id)).toMatchObject({ status, files: [] })
    const parts = await market.context.database.read((reader) => reader.all('SELECT * FROM task_file_parts'))
    expect(parts).toEqual([])
  })
})

test('text beyond the limit of the output ends the task, charged for what ran', async () => {
  const { id, start } = await begin()
  const text = 'x'.repeat(60_000)
  for (let offset = 0; offset < 660_000; offset += text.length) await agent.output(start, offset, text)
  market.clock.advance(400)
  await agent.output(start, 660_000, text, 400)
  expect(await market.task(alice, id)).toMatchObject({
    status: 'failed',
    end: { code: 'output_too_large' },
    cost: '0.0004',
  })
})

test('text that overlaps what is there already is cut to what is new', async () => {
  const { id, start } = await begin()
  await agent.output(start, 0, 'the quick ')
  await agent.output(start, 4, 'quick brown ')
  await agent.output(start, 0, 'the quick')
  await agent.output(start, 16, 'fox 🦊')
  expect((await read(id, 'output')).body).toBe('the quick brown fox 🦊')
})

test('of the log only so many lines are kept', async () => {
  const { id, start } = await begin()
  await agent.log(start, 0, ['1', '2', '3'])
  await agent.log(start, 3, ['4', '5', '6'])
  await agent.log(start, 6, ['7'])
  await agent.result(start)
  expect((await read(id, 'logs')).body).toBe('1\n2\n3\n4\n5\n')
})

test('a result that is not what the task type promises is the provider’s fault', async () => {
  const submitted = await market.submit(alice, { task_type: 'text_generation', input_data: { prompt: 'Once' } })
  const start = await agent.begin()
  market.clock.advance(100)
  await agent.result(start, { run_ms: 100, output_data: { text: 42 } })
  expect(await market.task(alice, submitted.id)).toMatchObject({
    status: 'pending',
    attempts: [{ status: 'failed', cost: '0', end: { code: 'invalid_output' } }],
  })
})

test('a result that comes before the GPU was ready is no result', async () => {
  const { id } = await market.submit(alice)
  const start = await agent.next('attempt.start')
  await agent.accept(start)
  await agent.result(start, { run_ms: 5_000 })
  expect(await market.task(alice, id)).toMatchObject({ status: 'pending', attempts: [{ status: 'failed', cost: '0' }] })
})

describe('an agent cannot fill the disk with', () => {
  let small: Market
  let renter: TestUser
  let machine: ScriptedAgent
  beforeAll(async () => {
    small = await startMarket({ limits: { piecesPerAttemptMax: 5, logBytesPerAttemptMax: 100 } })
    renter = await small.person('100')
    machine = await small.machine(await small.person())
  })
  afterAll(() => small.close())

  const eventsOf = async (id: string) => {
    const text = await small.call(`GET /api/tasks/${id}/events`, { token: renter.token })
    return [...String(text.body).matchAll(/^event: (.*)$/gm)].map(([, type]) => type)
  }

  test('many short pieces of output', async () => {
    const { id } = await small.submit(renter)
    const start = await machine.begin()
    for (let offset = 0; offset < 6; offset++) await machine.output(start, offset, 'x')
    expect(await small.task(renter, id)).toMatchObject({ status: 'failed', end: { code: 'output_too_large' } })
    expect((await eventsOf(id)).filter((type) => type === 'output.appended')).toHaveLength(5)
    await machine.result(start, { outcome: 'failed' })
  })

  test('words about how far it is', async () => {
    const { id } = await small.submit(renter)
    const start = await machine.next('attempt.start')
    await machine.accept(start)
    for (let percent = 0; percent < 20; percent++) await machine.preparing(start, `fetching ${percent} %`)
    await machine.ready(start)
    await machine.result(start)
    expect((await eventsOf(id)).filter((type) => type === 'attempt.preparing')).toHaveLength(5)
  })

  test('a log of long lines', async () => {
    const { id } = await small.submit(renter)
    const start = await machine.begin()
    await machine.log(start, 0, ['x'.repeat(60)])
    await machine.log(start, 1, ['y'.repeat(60)])
    await machine.log(start, 2, ['z'])
    await machine.result(start)
    const logs = await small.call(`GET /api/tasks/${id}/logs`, { token: renter.token })
    expect(logs.body).toBe(`${'x'.repeat(60)}\n`)
  })
})
