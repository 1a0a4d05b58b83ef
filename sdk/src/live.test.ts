import { api } from '@orbyte/protocol'
import { startMarket, testLimits } from '@orbyte/server/fixture-market.ts'
import { expect, onTestFinished, test } from 'vitest'
import { WebSocket } from 'ws'
import { createClient } from './client.ts'
import type { LiveMessage, LiveState, WebSocketConstructor } from './live.ts'
import { watch } from './watch.ts'

/** A real market, a task on a machine that the test speaks for, and its renter's client. */
async function taskThatRuns() {
  const market = await startMarket()
  onTestFinished(() => market.close())
  const [alice, bob] = [await market.person('100'), await market.person()]
  const machine = await market.machine(bob)
  const task = await market.submit(alice)
  const start = await machine.begin()
  const sockets: WebSocket[] = []
  class Recorded extends WebSocket {
    constructor(url: string) {
      super(url)
      sockets.push(this)
    }
  }
  const token = { access_token: alice.token, refresh_token: alice.refreshToken }
  const client = createClient({ url: market.url, token, webSocket: Recorded as WebSocketConstructor })
  return { market, alice, machine, task, start, client, sockets }
}

async function textOf(events: ReturnType<typeof watch>, onText: (text: string) => void = () => {}) {
  let text = ''
  for await (const { type, data } of events)
    if (type === 'output.appended') {
      text += String(data['text'])
      onText(text)
    }
  return text
}

test('a watch goes on over the socket when its connection breaks, and tells each event once', async () => {
  const { machine, task, start, client, sockets } = await taskThatRuns()
  let heard = (_text: string) => {}
  const until = (wanted: string) =>
    new Promise<void>((resolve) => (heard = (text) => (text === wanted ? resolve() : undefined)))
  const whole = textOf(watch(client, task.id), (text) => heard(text))
  await machine.output(start, 0, 'Once ')
  await until('Once ')
  sockets[0]!.terminate()
  await machine.output(start, 5, 'upon ')
  await until('Once upon ')
  sockets[1]!.close()
  await machine.output(start, 10, 'a time')
  await machine.result(start)
  expect(await whole).toBe('Once upon a time')
  expect(sockets.length).toBe(3)
})

test('where no WebSocket gets through, a watch listens to the event stream', async () => {
  const { machine, task, start, market, alice } = await taskThatRuns()
  class Blocked extends WebSocket {
    constructor() {
      super('ws://127.0.0.1:1')
    }
  }
  const client = createClient({
    url: market.url,
    token: alice.token,
    webSocket: Blocked as unknown as WebSocketConstructor,
  })
  const whole = textOf(watch(client, task.id))
  await machine.output(start, 0, 'all the same')
  await machine.result(start)
  expect(await whole).toBe('all the same')
})

test('a token that has expired is renewed, and the connection made again with the new one', async () => {
  const market = await startMarket({ config: { accessTokenMs: 60_000 }, limits: testLimits })
  onTestFinished(() => market.close())
  const alice = await market.person('5')
  const token = { access_token: alice.token, refresh_token: alice.refreshToken }
  const client = createClient({ url: market.url, token, webSocket: WebSocket as WebSocketConstructor })
  market.clock.advance(120_000)
  let unwatch = () => {}
  const message = await new Promise<LiveMessage>((resolve, failed) => {
    const listener = { message: (one: LiveMessage) => one.type === 'wallet' && resolve(one), failed }
    unwatch = client.live!.watch({ name: 'wallet' }, listener)
  })
  unwatch()
  expect(message).toMatchObject({ wallet: { balance: '5' } })
})

test('a session that has ended refuses what is its user’s, and nothing more comes', async () => {
  const { market, alice, client } = await taskThatRuns()
  await market.ask(alice, api.auth.logout, {})
  const error = await new Promise<Error>((failed) => {
    client.live!.watch({ name: 'tasks' }, { message: () => {}, failed })
  })
  expect(error).toMatchObject({ code: 'unauthenticated' })
})

test('the connection is closed after the last subject, and opened by the next', async () => {
  const { client, sockets } = await taskThatRuns()
  const states: LiveState['status'][] = []
  client.live!.onState(({ status }) => states.push(status))
  for (let round = 0; round < 2; round++)
    await new Promise<void>((resolve) => {
      const unwatch = client.live!.watch(
        { name: 'market' },
        {
          message: () => {
            queueMicrotask(() => {
              unwatch()
              resolve()
            })
          },
        },
      )
    })
  expect(states).toEqual(['connecting', 'open', 'idle', 'connecting', 'open', 'idle'])
  expect(sockets.length).toBe(2)
})
