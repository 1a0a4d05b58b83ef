import { once } from 'node:events'
import { connect, createServer, type Server, type Socket } from 'node:net'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { type Proxy, startProxy } from './chaos-proxy.ts'

let market: Server
let proxy: Proxy
let accepted: Socket[]
const open: Socket[] = []
beforeEach(async () => {
  accepted = []
  market = createServer((socket) => {
    accepted.push(socket.on('error', () => {}))
    socket.on('data', (data) => socket.write(data))
  }).listen(0, '127.0.0.1')
  await once(market, 'listening')
  proxy = await startProxy((market.address() as { port: number }).port)
})
afterEach(async () => {
  for (const socket of [...open.splice(0), ...accepted]) socket.destroy()
  await proxy.close()
  market.close()
})

async function newClient() {
  const socket = connect(proxy.port, '127.0.0.1').on('error', () => {})
  open.push(socket)
  let heard = ''
  socket.on('data', (data) => (heard += String(data)))
  await once(socket, 'connect')
  return { socket, say: (text: string) => void socket.write(text), heard: () => heard }
}

test('what is said arrives', async () => {
  const client = await newClient()
  client.say('hello')
  await expect.poll(client.heard).toBe('hello')
})

test('a cut is heard by both sides', async () => {
  const client = await newClient()
  client.say('hello')
  await expect.poll(client.heard).toBe('hello')
  proxy.cut()
  await expect.poll(() => [client.socket.destroyed, accepted[0]!.destroyed]).toEqual([true, true])
})

test('while it stalls nothing arrives, and then all of it does', async () => {
  const client = await newClient()
  client.say('one ')
  await expect.poll(client.heard).toBe('one ')
  proxy.stall()
  client.say('two')
  const another = await newClient()
  another.say('three')
  // Both connections are open; a third one, past the proxy, is answered.
  const direct = connect((market.address() as { port: number }).port, '127.0.0.1')
  open.push(direct)
  direct.write('direct')
  expect(String((await once(direct, 'data'))[0])).toBe('direct')
  expect([client.heard(), another.heard()]).toEqual(['one ', ''])
  proxy.heal()
  await expect.poll(() => [client.heard(), another.heard()]).toEqual(['one two', 'three'])
})

test.for([
  ['client', true, false],
  ['market', false, true],
] as const)('half open: the %s speaks to nobody', async ([side, marketGone, clientGone]) => {
  const client = await newClient()
  client.say('hello')
  await expect.poll(client.heard).toBe('hello')
  proxy.halfOpen(side)
  await expect.poll(() => [accepted[0]!.destroyed, client.socket.destroyed]).toEqual([marketGone, clientGone])
  client.say(' anybody?')
  expect(client.heard()).toBe('hello')
})

test('what is refused may come again once it is healed', async () => {
  proxy.refuse()
  const refused = connect(proxy.port, '127.0.0.1').on('error', () => {})
  open.push(refused)
  await new Promise((resolve) => refused.once('close', resolve))
  proxy.heal()
  const client = await newClient()
  client.say('again')
  await expect.poll(client.heard).toBe('again')
})
