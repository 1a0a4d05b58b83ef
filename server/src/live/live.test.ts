import { once } from 'node:events'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { api, liveCloseCodes, livePath, type LiveServerMessageWire, type LiveSubject } from '@orbyte/protocol'
import { WebSocket } from 'ws'
import { type Market, startMarket } from '../fixture-market.ts'
import type { TestUser } from '../fixture-server.ts'

type Message = LiveServerMessageWire
type OfType<T extends Message['type']> = Extract<Message, { type: T }>

let market: Market
beforeAll(async () => {
  market = await startMarket()
})
afterEach(() => market.clear())
afterAll(() => market.close())

/** The watcher's side of the socket: messages in the order in which they came. */
async function openLive(user: TestUser | null = null, on: Market = market) {
  const socket = new WebSocket(on.url.replace('http', 'ws') + livePath)
  const heard: Message[] = []
  let wake = () => {}
  socket.on('message', (data) => {
    heard.push(JSON.parse(String(data)) as Message)
    wake()
  })
  const closed = once(socket, 'close').then(([code]) => code as number)
  void closed.then(() => wake())
  const say = (message: object) => socket.send(JSON.stringify(message))
  async function next<T extends Message['type']>(type: T, isIt: (message: OfType<T>) => boolean = () => true) {
    for (;;) {
      const at = heard.findIndex((message) => message.type === type && isIt(message as OfType<T>))
      if (at !== -1) return heard.splice(0, at + 1).at(-1) as OfType<T>
      if (socket.readyState === socket.CLOSED) throw new Error(`closed before ${type}`)
      await new Promise<void>((resolve) => (wake = resolve))
    }
  }
  await next('welcome')
  if (user) {
    say({ type: 'authenticate', credential: user.token })
    await next('authenticated')
  }
  const watch = (id: number, subject: LiveSubject, after?: number) => say({ type: 'watch', id, subject, after })
  return { socket, heard, say, next, watch, closed }
}

/** Accepted, and not finished yet: `produce` writes what it gives and finishes it. */
async function taskThatRuns() {
  const [alice, bob] = [await market.person('100'), await market.person()]
  const machine = await market.machine(bob)
  const task = await market.submit(alice)
  const start = await machine.begin()
  async function produce(pieces: string[]) {
    let offset = 0
    for (const piece of pieces) {
      await machine.output(start, offset, piece)
      offset += piece.length
    }
    await machine.result(start)
  }
  return { alice, bob, machine, task, produce }
}

describe('a watcher of a task', () => {
  test('hears everything from its beginning to its end, as the event stream tells it', async () => {
    const { alice, task, produce } = await taskThatRuns()
    const live = await openLive(alice)
    live.watch(1, { name: 'task', task_id: task.id })
    await live.next('event', ({ event }) => event.type === 'task.queued')
    await produce(['Once ', 'upon'])
    const texts: unknown[] = []
    const cursors: number[] = []
    for (;;) {
      const { event } = await live.next('event')
      cursors.push(event.cursor)
      if (event.type === 'output.appended') texts.push(event.data['text'])
      if (event.type === 'task.completed') break
    }
    expect(texts.join('')).toBe('Once upon')
    expect(cursors).toEqual([...new Set(cursors)].sort((a, b) => a - b))
    await live.next('done')
  })

  test('goes on after the cursor that it had heard, with no gap and no repetition', async () => {
    const { alice, task, produce } = await taskThatRuns()
    const first = await openLive(alice)
    first.watch(1, { name: 'task', task_id: task.id })
    const { event } = await first.next('event', ({ event }) => event.type === 'attempt.accepted')
    first.socket.terminate()
    await produce(['all'])
    await market.until(
      () => market.task(alice, task.id),
      ({ status }) => status === 'completed',
    )
    const second = await openLive(alice)
    second.watch(1, { name: 'task', task_id: task.id }, event.cursor)
    const heard: string[] = []
    while (heard.at(-1) !== 'task.completed') heard.push((await second.next('event')).event.type)
    await second.next('done')
    const whole = await openLive(alice)
    whole.watch(1, { name: 'task', task_id: task.id })
    const all: string[] = []
    while (all.at(-1) !== 'task.completed') all.push((await whole.next('event')).event.type)
    expect(heard).toEqual(all.slice(all.indexOf('attempt.accepted') + 1))
  })

  test('has to be its renter', async () => {
    const { bob, task } = await taskThatRuns()
    const live = await openLive(bob)
    live.watch(7, { name: 'task', task_id: task.id })
    expect(await live.next('refused')).toMatchObject({ id: 7, code: 'not_found' })
  })
})

test('a renter hears of all of their tasks without output, a provider of attempts on their GPUs', async () => {
  const [alice, bob] = [await market.person('100'), await market.person()]
  const [renter, provider] = [await openLive(alice), await openLive(bob)]
  renter.watch(1, { name: 'tasks' })
  provider.watch(1, { name: 'attempts' })
  await renter.next('watching')
  await provider.next('watching')
  const machine = await market.machine(bob)
  await market.submit(alice)
  const start = await machine.begin()
  await machine.output(start, 0, 'secret')
  await machine.result(start)
  const tasks: string[] = []
  while (tasks.at(-1) !== 'task.completed') tasks.push((await renter.next('event')).event.type)
  expect(tasks).toContain('task.queued')
  expect(tasks).toContain('attempt.ready')
  expect(tasks).not.toContain('output.appended')
  const attempts: string[] = []
  while (attempts.at(-1) !== 'attempt.ended') attempts.push((await provider.next('event')).event.type)
  expect(attempts.every((type) => /^(attempt|payment)\./.test(type))).toBe(true)
})

test('whoever was away for a while hears what they missed; for too long, that they missed it', async () => {
  const alice = await market.person('100')
  const live = await openLive(alice)
  live.watch(1, { name: 'tasks' })
  const { cursor } = await live.next('watching')
  live.socket.terminate()
  const task = await market.submit(alice, { wait: true, max_price_per_hour: '1' })
  const back = await openLive(alice)
  back.watch(1, { name: 'tasks' }, cursor)
  expect((await back.next('event')).event).toMatchObject({ type: 'task.queued', task_id: task.id })
  const lost = await openLive(alice)
  lost.watch(1, { name: 'tasks' }, cursor + 1_000_000)
  expect((await lost.next('missed')).cursor).toBeLessThan(cursor + 1_000_000)
})

test('the wallet is told whole at first and after each change', async () => {
  const alice = await market.person('100')
  const live = await openLive(alice)
  live.watch(1, { name: 'wallet' })
  expect((await live.next('wallet')).wallet.balance).toBe('100')
  await market.ask(alice, api.wallet.withdraw, { amount: '30' })
  market.clock.advance(250)
  expect((await live.next('wallet')).wallet.balance).toBe('70')
})

test('an owner hears telemetry of their GPUs; others of changes only, and of GPUs that go', async () => {
  const bob = await market.person()
  const [owner, visitor] = [await openLive(bob), await openLive()]
  owner.watch(1, { name: 'gpus' })
  visitor.watch(1, { name: 'market' })
  await visitor.next('watching')
  await owner.next('watching')
  const machine = await market.machine(bob)
  const { gpuId } = machine
  market.clock.advance(1_000)
  await visitor.next('gpus', ({ gpus }) => gpus.some(({ id, status }) => id === gpuId && status === 'available'))
  await owner.next('gpus', ({ gpus }) => gpus.some(({ id }) => id === gpuId))
  await machine.heartbeat()
  market.clock.advance(1_000)
  await owner.next('gpus', ({ gpus }) => gpus.some(({ telemetry }) => telemetry?.utilization_percent === 50))
  expect(visitor.heard).toEqual([])
  await machine.disconnect()
  await market.until(
    () => market.ask(null, api.gpus.get, { gpu_id: gpuId }),
    ({ status }) => status === 'offline',
  )
  await market.ask(bob, api.gpus.delete, { gpu_id: gpuId })
  market.clock.advance(1_000)
  await visitor.next('gpus', ({ removed }) => removed.includes(gpuId))
})

describe('a connection ends', () => {
  test.for<[string, string | object]>([
    ['no JSON', 'hello'],
    ['an unknown message', { type: 'dance' }],
    ['a subject that does not exist', { type: 'watch', id: 1, subject: { name: 'everything' } }],
  ])('with %s', async ([, message]) => {
    const live = await openLive()
    live.socket.send(typeof message === 'string' ? message : JSON.stringify(message))
    expect(await live.closed).toBe(liveCloseCodes.malformed)
  })

  test('with a credential that is not valid, or not any more', async () => {
    const live = await openLive()
    live.say({ type: 'authenticate', credential: 'invented' })
    expect(await live.closed).toBe(liveCloseCodes.unauthenticated)
    const alice = await market.person()
    const loggedIn = await openLive(alice)
    loggedIn.watch(1, { name: 'wallet' })
    await loggedIn.next('wallet')
    await market.ask(alice, api.auth.logout, {})
    expect(await loggedIn.closed).toBe(liveCloseCodes.unauthenticated)
  })

  test('when there are too many from one address', async () => {
    const small = await startMarket({ limits: { streamsPerUserMax: 1 } })
    const first = await openLive(null, small)
    const second = new WebSocket(small.url.replace('http', 'ws') + livePath)
    expect((await once(second, 'close'))[0]).toBe(liveCloseCodes.too_many)
    first.socket.terminate()
    await small.close()
  })

  test('when the market stops, and says so', async () => {
    const other = await startMarket()
    const live = await openLive(null, other)
    await other.close()
    expect(await live.closed).toBe(liveCloseCodes.stopping)
  })
})

test('nothing but the market is for everybody', async () => {
  const live = await openLive()
  for (const name of ['tasks', 'attempts', 'gpus', 'wallet'] as const) {
    live.watch(1, { name })
    expect(await live.next('refused')).toMatchObject({ code: 'unauthenticated' })
  }
})

test('a watcher that does not read for two minutes is hung up on', async () => {
  const { alice, task, produce } = await taskThatRuns()
  const live = await openLive(alice)
  live.watch(1, { name: 'task', task_id: task.id })
  await live.next('watching')
  live.socket.pause()
  const output = Array.from({ length: 140 }, () => 'x'.repeat(60_000))
  await produce(output)
  await market.until(
    () => market.task(alice, task.id),
    ({ status }) => status === 'completed',
  )
  for (let ticks = 0; ticks < 10; ticks++) {
    market.clock.advance(15_000)
    await new Promise((resolve) => setImmediate(resolve))
    // A tick looks at the database, so the next one is due only when that is done.
    await market.task(alice, task.id)
  }
  live.socket.resume()
  expect([1006, liveCloseCodes.too_slow]).toContain(await live.closed)
})
