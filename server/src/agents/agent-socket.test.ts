import { createConnection, type Socket } from 'node:net'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { agentMessageBytesMax, agentSocketPath, api } from '@orbyte/protocol'
import { connectAgent, deviceWire, helloOf, type Line, newMachine, openSocket } from './fixture-agent.ts'
import { type Market, startMarket } from '../fixture-market.ts'
import { outcome, type TestUser } from '../fixture-server.ts'

let market: Market
let bob: TestUser
let token: string
beforeAll(async () => {
  market = await startMarket({ config: { allowEmulatedGpus: false } })
})
beforeEach(async () => {
  bob = await market.person()
  token = (await market.ask(bob, api.agentTokens.create, { name: 'a machine' })).token
})
afterEach(() => market.clear())
afterAll(() => market.close())

/** The refusal, and that the line is closed after it. */
async function refusal(line: Line) {
  const { code, retry } = await line.next('refused')
  expect(await line.closed).toBe(1008)
  return { code, retry }
}

async function greet(fields: Parameters<typeof helloOf>[2] = {}, machine = newMachine(token)) {
  const line = openSocket(market.url)
  const { nonce } = await line.next('challenge')
  line.send(helloOf(machine, nonce, fields))
  return line
}

describe('an agent is not let in', () => {
  test.for([
    ['another version of the protocol', { protocol_version: 99 }, { code: 'protocol_version', retry: false }],
    ['a signature of something else', { signature: 'c2lnbmF0dXJl' }, { code: 'bad_signature', retry: false }],
    ['a key that is no key', { public_key: 'not a key' }, { code: 'bad_signature', retry: false }],
    ['no token', { agent_token: null }, { code: 'not_enrolled', retry: false }],
    ['a token that nobody made', { agent_token: 'orbyte_agent_invented' }, { code: 'token_unknown', retry: false }],
    [
      'a device larger than any',
      { devices: [deviceWire({ uuid: 'GPU-x', vram_mib: 1e308 })] },
      { code: 'invalid_message', retry: true },
    ],
    ['a field of the wrong type', { devices: 'all of them' }, { code: 'invalid_message', retry: true }],
  ] as const)('with %s', async ([, fields, expected]) => {
    expect(await refusal(await greet(fields))).toEqual(expected)
    expect((await market.ask(bob, api.agents.list, {})).items).toEqual([])
  })

  test('with another agent’s signature of an earlier nonce', async () => {
    const machine = newMachine(token)
    const first = openSocket(market.url)
    const hello = helloOf(machine, (await first.next('challenge')).nonce)
    const second = openSocket(market.url)
    await second.next('challenge')
    second.send(hello)
    expect(await refusal(second)).toEqual({ code: 'bad_signature', retry: false })
    await first.disconnect()
  })

  test('with a token that was revoked', async () => {
    const [first] = (await market.ask(bob, api.agentTokens.list, {})).items
    await market.ask(bob, api.agentTokens.revoke, { agent_token_id: first!.id })
    expect(await refusal(await greet())).toEqual({ code: 'token_unknown', retry: false })
  })

  test('when its key was revoked; a connection that is open is closed', async () => {
    const agent = await market.connect(newMachine(token), [deviceWire({ uuid: 'GPU-revoked' })])
    await market.ask(bob, api.agents.revoke, { agent_id: agent.id })
    expect(await agent.next('refused')).toMatchObject({ code: 'agent_revoked', retry: false })
    await agent.closed
    expect((await market.ask(null, api.gpus.get, { gpu_id: agent.gpuId })).status).toBe('offline')
    expect(await refusal(await greet({}, agent.machine))).toEqual({ code: 'agent_revoked', retry: false })
    const restore = await market.attempt(await market.admin(), api.admin.restoreAgent, { agent_id: agent.id })
    expect(outcome(restore)).toBe('404 not_found')
  })
})

describe('a line is closed', () => {
  test('when nobody says hello in ten seconds', async () => {
    const line = openSocket(market.url)
    await line.next('challenge')
    market.clock.advance(10_000)
    expect(await refusal(line)).toEqual({ code: 'no_hello', retry: true })
  })

  test.for([
    ['garbage', 'this is not JSON'],
    ['JSON that is no message', '{"type":"attempt.start"}'],
    ['a list', '[]'],
    ['lists within lists', `{"type":"hello","devices":${'['.repeat(100_000)}${']'.repeat(100_000)}}`],
    ['binary', Buffer.from([0, 1, 2, 255])],
    ['a message before hello', JSON.stringify({ type: 'heartbeat', id: 1, devices: [], attempts: [] })],
  ] as const)('after %s', async ([, data]) => {
    const line = openSocket(market.url)
    await line.next('challenge')
    line.sendRaw(data)
    expect((await refusal(line)).retry).toBe(true)
  })

  test('after a second hello', async () => {
    const agent = await market.connect(newMachine(token), [])
    agent.send(helloOf(agent.machine, 'another nonce'))
    expect(await refusal(agent)).toEqual({ code: 'hello_expected', retry: true })
  })

  test('after garbage from an agent that was let in, who may come back', async () => {
    const agent = await market.connect(newMachine(token), [])
    agent.sendRaw('{"type":"attempt.result"}')
    expect(await refusal(agent)).toEqual({ code: 'invalid_message', retry: true })
    expect((await market.reconnect(agent)).id).toBe(agent.id)
  })

  test('after a measure that no device has, so that the sum of all stays one', async () => {
    const agent = await market.connect(newMachine(token), [deviceWire({ uuid: 'GPU-hot' })])
    const telemetry = { utilization_percent: 1, vram_used_gb: 1, temperature_celsius: 60, power_watts: 1.7e308 }
    agent.send({ type: 'heartbeat', id: 1, devices: [{ uuid: 'GPU-hot', telemetry }], attempts: [] })
    expect((await refusal(agent)).code).toBe('invalid_message')
  })

  test('after a message that is larger than one may be', async () => {
    const agent = await market.connect(newMachine(token), [])
    agent.send({
      type: 'attempt.log',
      seq: 1,
      attempt_id: 'a',
      fencing_token: 'b',
      lines: ['x'.repeat(agentMessageBytesMax)],
    })
    expect([1006, 1009]).toContain(await agent.closed)
    expect((await market.reconnect(agent)).id).toBe(agent.id)
  })
})

describe('a message that is missing', () => {
  const said = (seq: number) => ({ type: 'devices', seq, devices: [] })

  test('is noticed by the number of the next one: nothing is acknowledged across it, and the agent sends both again', async () => {
    const agent = await market.connect(newMachine(token), [])
    agent.send(said(1))
    await agent.acked(1)
    agent.send(said(3))
    expect(await refusal(agent)).toEqual({ code: 'message_missing', retry: true })
    const back = await market.reconnect(agent)
    expect(back.welcome.acked_seq).toBe(1)
    for (const seq of [2, 3]) back.send(said(seq))
    await back.acked(3)
  })

  test('is noticed by the next heartbeat, where nothing else follows', async () => {
    const agent = await market.connect(newMachine(token), [])
    agent.send({ type: 'heartbeat', id: 0, last_seq: 1, devices: [], attempts: [] })
    expect(await refusal(agent)).toEqual({ code: 'message_missing', retry: true })
  })

  test('is none where an earlier market has acknowledged it', async () => {
    const machine = { ...newMachine(token), seq: 7, acked: 7 }
    const agent = await market.connect(machine, [])
    agent.send(said(8))
    await agent.acked(8)
    expect(await agent.heartbeat()).toMatchObject({ acked_seq: 8 })
  })
})

test('of two connections of one agent the newest wins, and what the old one says is not heard', async () => {
  const machine = newMachine(token)
  const old = await market.connect(machine, [deviceWire({ uuid: 'GPU-twice' })])
  const now = await market.reconnect(old)
  await old.closed
  expect(now.gpuId).toBe(old.gpuId)
  const { items } = await market.ask(bob, api.agents.list, {})
  expect(items).toMatchObject([{ id: now.id, connected: true, liveness: 'alive', gpus: 1 }])
  const alice = await market.person('10')
  const { id } = await market.submit(alice)
  expect(await now.next('attempt.start')).toMatchObject({ task_id: id })
})

test('two connections at the same time leave one that works', async () => {
  const machine = newMachine(token)
  const device = deviceWire({ uuid: 'GPU-race' })
  const both = await Promise.all([
    connectAgent(market.url, machine, { devices: [device] }),
    connectAgent(market.url, machine, { devices: [device] }),
  ])
  const survivors = await market.until(
    async () => both.filter((agent) => agent.isOpen()),
    ({ length }) => length === 1,
  )
  const { id } = await market.submit(await market.person('10'))
  expect(await survivors[0]!.next('attempt.start')).toMatchObject({ task_id: id })
  await Promise.all(both.map((agent) => agent.disconnect()))
})

test('the key enrols once: afterwards the machine needs no token, and keeps its identity', async () => {
  const agent = await market.connect(newMachine(token), [deviceWire({ uuid: 'GPU-known' })])
  const [created] = (await market.ask(bob, api.agentTokens.list, {})).items
  await market.ask(bob, api.agentTokens.revoke, { agent_token_id: created!.id })
  agent.machine.token = null
  const back = await market.reconnect(agent, { hostname: 'renamed' })
  expect([back.id, back.gpuId]).toEqual([agent.id, agent.gpuId])
  expect((await market.ask(bob, api.agents.list, {})).items).toMatchObject([{ hostname: 'renamed', status: 'active' }])
})

test('devices that are refused are named with the reason, and the others become GPUs', async () => {
  const devices = [deviceWire({ uuid: 'GPU-real' }), deviceWire({ uuid: 'GPU-pretend', kind: 'emulated' })]
  const { welcome } = await market.connect(newMachine(token), devices)
  expect(welcome.gpus.map(({ uuid }) => uuid)).toEqual(['GPU-real'])
  expect(welcome.refused_devices).toMatchObject([{ uuid: 'GPU-pretend', code: 'emulated_gpus_refused' }])
})

test('nobody revokes another’s agent', async () => {
  const agent = await market.connect(newMachine(token), [])
  const answer = await market.attempt(await market.person(), api.agents.revoke, { agent_id: agent.id })
  expect(outcome(answer)).toBe('404 not_found')
  await agent.heartbeat()
})

test.for(['/api/agents/connect/elsewhere', '//', '/', '/%'])(
  'an upgrade of %s is answered with 404, and the market goes on',
  async (path) => {
    const { port } = new URL(market.url)
    const socket = createConnection(Number(port), '127.0.0.1')
    const answer = new Promise<string>((resolve) => {
      let text = ''
      socket.on('data', (data) => (text += data.toString()))
      socket.on('close', () => resolve(text))
    })
    socket.write(
      `GET ${path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ${'a'.repeat(22)}==\r\n\r\n`,
    )
    expect(await answer).toMatch(/^HTTP\/1\.1 404 /)
    expect(outcome(await market.call('GET /api/health'))).toBe('200')
  },
)

test('a caller who hangs up before an upgrade is answered does not take the market down', async () => {
  const uncaught: unknown[] = []
  const catchAll = (error: unknown) => void uncaught.push(error)
  process.on('uncaughtException', catchAll)
  const upgrades = 20
  const closed = allClosed(upgrades)
  for (let index = 0; index < upgrades; index++) {
    const socket = createConnection(Number(new URL(market.url).port), '127.0.0.1')
    const path = index % 2 === 0 ? '/elsewhere' : agentSocketPath
    socket.write(`GET ${path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n`, () =>
      socket.resetAndDestroy(),
    )
  }
  await closed
  process.off('uncaughtException', catchAll)
  expect(uncaught).toEqual([])
})

/** Resolves when the next `count` connections have come and closed. */
function allClosed(count: number): Promise<void> {
  const { server } = market.app
  return new Promise((resolve) => {
    let [come, gone] = [0, 0]
    const hear = (socket: Socket) => {
      if (++come === count) server.off('connection', hear)
      socket.once('close', () => ++gone === count && resolve())
    }
    server.on('connection', hear)
  })
}

test('before its hello nobody makes the market keep more than a hello', async () => {
  const line = openSocket(market.url)
  await line.next('challenge')
  line.sendRaw('x'.repeat(agentMessageBytesMax))
  expect(await line.closed).toBe(1006)
})

test('sockets on which nobody says hello do not take the place of others', async () => {
  const small = await startMarket({ config: { trustedProxies: 1 } })
  const open = (from: string) => openSocket(small.url, { headers: { 'x-forwarded-for': from } })
  const isTaken = (line: Line) =>
    line.next('challenge').then(
      () => true,
      () => false,
    )
  const silent = Array.from({ length: 200 }, () => open('203.0.113.1'))
  const taken = await Promise.all(silent.map(isTaken))
  expect(taken.filter(Boolean)).toHaveLength(128)
  expect(await isTaken(open('203.0.113.1'))).toBe(false)
  expect(await isTaken(open('203.0.113.2'))).toBe(true)
  await Promise.all(silent.map((line) => line.disconnect()))
  await small.until(() => isTaken(open('203.0.113.1')), Boolean)
  await small.close()
})

test('an agent that was let in is none of those that are counted, though it says nothing more', async () => {
  const agents = []
  for (let index = 0; index < 130; index++) agents.push(await market.connect(newMachine(token), []))
  expect(agents.every((agent) => agent.isOpen())).toBe(true)
})
