import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest'
import { api, type MarketEvent } from '@orbyte/protocol'
import type { ScriptedAgent } from '../agents/fixture-agent.ts'
import { openSqlite } from '../db/sqlite-database.ts'
import { type Market, startMarket } from '../fixture-market.ts'
import { logIn, outcome, type TestUser } from '../fixture-server.ts'

let market: Market
let alice: TestUser
let agent: ScriptedAgent
beforeAll(async () => {
  market = await startMarket()
})
beforeEach(async () => {
  alice = await market.person('100')
  agent = await market.machine(await market.person())
})
afterEach(() => market.clear())
afterAll(() => market.close())

type Stream = { next(): Promise<MarketEvent | null>; rest(): Promise<MarketEvent[]>; close(): void }

/** The events of a task as they arrive; null: the stream has ended. */
async function watch(
  taskId: string,
  options: { after?: number; lastEventId?: number; token?: string } = {},
): Promise<Stream> {
  const query = options.after === undefined ? '' : `?after=${options.after}`
  const closing = new AbortController()
  const response = await fetch(`${market.url}/api/tasks/${taskId}/events${query}`, {
    signal: closing.signal,
    headers: {
      authorization: `Bearer ${options.token ?? alice.token}`,
      ...(options.lastEventId !== undefined && { 'last-event-id': String(options.lastEventId) }),
    },
  })
  expect([response.status, response.headers.get('content-type')]).toEqual([200, 'text/event-stream; charset=utf-8'])
  const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader()
  let text = ''
  async function next(): Promise<MarketEvent | null> {
    for (;;) {
      const end = text.indexOf('\n\n')
      const [block, rest] = [text.slice(0, end), text.slice(end + 2)]
      if (end < 0) {
        const { done, value } = await reader.read()
        if (done) return null
        text += value
        continue
      }
      text = rest
      const data = /^data: (.*)$/m.exec(block)?.[1]
      if (data === undefined) continue
      const event = JSON.parse(data) as MarketEvent
      expect(block).toBe(`id: ${event.cursor}\nevent: ${event.type}\ndata: ${data}`)
      return event
    }
  }
  async function rest() {
    const events: MarketEvent[] = []
    for (let event = await next(); event !== null; event = await next()) events.push(event)
    return events
  }
  return { next, rest, close: () => closing.abort() }
}

const wholeLife = [
  'task.queued',
  'attempt.accepted',
  'attempt.ready',
  'output.appended',
  'log.appended',
  'payment.settled',
  'attempt.ended',
  'task.completed',
]

async function runToTheEnd() {
  const { id } = await market.submit(alice)
  const start = await agent.begin()
  await agent.output(start, 0, 'hello')
  await agent.log(start, 0, ['a line'])
  market.clock.advance(7)
  await agent.result(start, { run_ms: 7 })
  return id
}

test('a stream begins with what has happened and ends with the task', async () => {
  const events = await (await watch(await runToTheEnd())).rest()
  expect(events.map(({ type }) => type)).toEqual(wholeLife)
  const cursors = events.map(({ cursor }) => cursor)
  expect(cursors).toEqual([...cursors].sort((a, b) => a - b))
  expect(events.find(({ type }) => type === 'output.appended')!.data).toEqual({ offset: 0, text: 'hello' })
  expect(events.at(-1)!.data).toMatchObject({ end: { code: 'completed' }, run_ms: 7 })
})

test('whoever watches hears of each thing as it happens', async () => {
  const { id } = await market.submit(alice)
  const stream = await watch(id)
  const start = await agent.begin()
  for (const type of wholeLife.slice(0, 3)) expect((await stream.next())!.type).toBe(type)
  for (const [offset, text] of [
    [0, 'one '],
    [4, 'two'],
  ] as const) {
    await agent.output(start, offset, text)
    expect((await stream.next())!.data).toEqual({ offset, text })
  }
  await agent.result(start)
  expect((await stream.rest()).map(({ type }) => type)).toEqual(['attempt.ended', 'task.completed'])
})

test('a stream goes on where it broke off, by Last-Event-ID or by cursor', async () => {
  const id = await runToTheEnd()
  const all = await (await watch(id)).rest()
  const { cursor } = all[3]!
  expect(await (await watch(id, { lastEventId: cursor })).rest()).toEqual(all.slice(4))
  expect(await (await watch(id, { after: cursor })).rest()).toEqual(all.slice(4))
})

test('a stream of what comes after the end of a task ends at once', async () => {
  const { id } = await market.submit(alice, { auto_pay: false })
  const start = await agent.begin()
  market.clock.advance(5)
  await agent.result(start, { run_ms: 5 })
  const { cursor } = (await (await watch(id)).rest()).at(-1)!
  expect(await (await watch(id, { after: cursor })).rest()).toEqual([])
  expect(outcome(await market.call(`POST /api/payments/${id}/pay`, { token: alice.token, body: {} }))).toBe('200')
  const later = await (await watch(id, { after: cursor })).rest()
  expect(later.map(({ type }) => type)).toEqual(['payment.settled'])
})

test('output is that of the newest attempt, logs are those of all', async () => {
  const second = await market.machine(await market.person(), [{ price_per_hour: '5' }])
  const { id } = await market.submit(alice)
  const start = await agent.next('attempt.start')
  await agent.accept(start)
  await agent.ready(start)
  await agent.output(start, 0, 'half a')
  await agent.log(start, 0, ['from the first'])
  await agent.result(start, { outcome: 'failed' })
  const again = await second.begin()
  await second.output(again, 0, 'whole')
  await second.log(again, 0, ['from the second'])
  await second.result(again)
  const read = async (what: string) => (await market.call(`GET /api/tasks/${id}/${what}`, { token: alice.token })).body
  expect(await read('output')).toBe('whole')
  expect(await read('logs')).toBe('from the first\nfrom the second\n')
})

test('a user has at most so many streams open at a time, and gets a place back by closing one', async () => {
  const { id } = await market.submit(alice)
  const most = market.context.config.limits.streamsPerUserMax
  const streams = await Promise.all(Array.from({ length: most }, () => watch(id)))
  const oneMore = () => market.call(`GET /api/tasks/${id}/events`, { token: alice.token })
  expect(outcome(await oneMore())).toBe('429 rate_limited')
  streams[0]!.close()
  await market.call(`POST /api/tasks/${id}/cancel`, { token: alice.token, body: {} })
  await market.until(oneMore, ({ status }) => status === 200)
})

test('a stream ends with the key or the session that it was opened with', async () => {
  const { id } = await market.submit(alice)
  const key = await market.ask(alice, api.apiKeys.create, { name: 'a program' })
  const ofKey = await watch(id, { token: key.key })
  await market.ask(alice, api.apiKeys.revoke, { api_key_id: key.id })
  expect((await ofKey.rest()).map(({ type }) => type)).not.toContain('task.cancelled')
  const { access_token } = await logIn(market.call, alice.email)
  const ofSession = await watch(id, { token: access_token })
  await market.ask({ token: access_token }, api.auth.logout, {})
  expect((await ofSession.rest()).map(({ type }) => type)).not.toContain('task.cancelled')
})

test('a download takes one of the same places', async () => {
  const id = await runToTheEnd()
  const open = await market.submit(alice)
  const { streamsPerUserMax: most } = market.context.config.limits
  const download = () => market.call(`GET /api/tasks/${id}/output`, { token: alice.token })
  for (let count = 0; count <= most; count++) expect(outcome(await download())).toBe('200')
  const streams = await Promise.all(Array.from({ length: most }, () => watch(open.id)))
  expect(outcome(await download())).toBe('429 rate_limited')
  for (const stream of streams) stream.close()
})

test('who leaves before the stream begins keeps no place', async () => {
  const database = openSqlite(':memory:')
  let held: (() => void)[] | null = null
  const read: typeof database.read = async (work) => {
    if (held) await new Promise<void>((resolve) => held!.push(resolve))
    return database.read(work)
  }
  const own = await startMarket({ limits: { streamsPerUserMax: 2 }, outside: { database: { ...database, read } } })
  const carol = await own.person('10')
  const { id } = await own.submit(carol, { wait: true, max_price_per_hour: '1' })
  const stream = `/api/tasks/${id}/events`
  let left = 0
  own.app.server.on('request', (request, response) => {
    if (request.url === stream) response.on('close', () => left++)
  })
  for (let leaving = 0; leaving < 3; leaving++) {
    held = []
    const closing = new AbortController()
    const headers = { authorization: `Bearer ${carol.token}` }
    const asked = fetch(own.url + stream, { headers, signal: closing.signal }).catch(() => null)
    const { length } = await own.until(
      turn(() => held!),
      ({ length }) => length > 0,
    )
    closing.abort()
    await asked
    await own.until(
      turn(() => left),
      (count) => count > leaving,
    )
    const waiting = held.splice(0, length)
    held = null
    for (const go of waiting) go()
  }
  await own.ask(carol, api.tasks.cancel, { task_id: id })
  expect(outcome(await own.call(`GET ${stream}`, { token: carol.token }))).toBe('200')
  await own.close()
})

/** Looks after whatever is due in the event loop has happened. */
const turn =
  <T>(look: () => T) =>
  () =>
    new Promise<T>((resolve) => setImmediate(() => resolve(look())))
