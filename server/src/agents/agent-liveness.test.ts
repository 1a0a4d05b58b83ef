import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest'
import { api } from '@orbyte/protocol'
import type { ScriptedAgent } from './fixture-agent.ts'
import { type Market, startMarket } from '../fixture-market.ts'
import type { TestUser } from '../fixture-server.ts'

let market: Market
let alice: TestUser
let bob: TestUser
let agent: ScriptedAgent
beforeAll(async () => {
  market = await startMarket()
})
beforeEach(async () => {
  alice = await market.person('100')
  bob = await market.person()
  agent = await market.machine(bob)
})
afterEach(() => market.clear())
afterAll(() => market.close())

async function seen() {
  const { status, liveness } = await market.ask(null, api.gpus.get, { gpu_id: agent.gpuId })
  const { items } = await market.ask(bob, api.agents.list, {})
  expect(items.find(({ id }) => id === agent.id)!.liveness).toBe(liveness)
  return [liveness, status]
}

test('an agent that says nothing is suspect after 15 s, unknown after 30 s and dead after 90 s; a word brings it back', async () => {
  expect(await seen()).toEqual(['alive', 'available'])
  market.clock.advance(14_999)
  expect(await seen()).toEqual(['alive', 'available'])
  market.clock.advance(1)
  expect(await seen()).toEqual(['suspect', 'available'])
  market.clock.advance(15_000)
  expect(await seen()).toEqual(['unknown', 'offline'])
  await agent.heartbeat()
  expect(await seen()).toEqual(['alive', 'available'])
  market.clock.advance(90_000)
  expect(await seen()).toEqual(['dead', 'offline'])
  expect(await agent.closed).toBe(1000)
  agent = await market.reconnect(agent)
  expect(await seen()).toEqual(['alive', 'available'])
})

test('what a dead agent ran is tried elsewhere, and only one of the two is paid', async () => {
  const { id } = await market.submit(alice)
  const start = await agent.begin()
  await agent.heartbeat([{ start, run_ms: 0 }])
  const second = await market.machine(bob)
  market.clock.advance(89_999)
  await second.heartbeat()
  expect(await market.task(alice, id)).toMatchObject({ status: 'running', gpu_id: agent.gpuId })
  market.clock.advance(1)
  const again = await second.begin()
  expect(again.task_id).toBe(id)
  market.clock.advance(100)
  await second.result(again, { run_ms: 100 })

  const held = [{ ...agent.ref(start), status: 'ended', run_ms: 80_000 }]
  const back = await market.reconnect(agent, { attempts: held })
  expect(back.welcome.attempts).toMatchObject([{ attempt_id: start.attempt_id, action: 'stop' }])
  await back.result(start, { run_ms: 80_000 })
  const task = await market.task(alice, id)
  expect(task).toMatchObject({ status: 'completed', cost: '0.0001', attempts_count: 2 })
  expect(task.attempts).toMatchObject([
    { status: 'lost', cost: '0', end: { code: 'agent_lost' } },
    { status: 'completed' },
  ])
  expect((await market.ask(bob, api.payments.received, {})).items).toMatchObject([{ attempt_id: again.attempt_id }])
})

test('an agent that is cut off for less than its deadline goes on where it was', async () => {
  const { id } = await market.submit(alice)
  const start = await agent.begin()
  await agent.disconnect()
  market.clock.advance(60_000)
  const back = await market.reconnect(agent, { attempts: [{ ...agent.ref(start), status: 'running', run_ms: 60_000 }] })
  expect(back.welcome.attempts).toEqual([{ ...agent.ref(start), action: 'keep', deadline_in_ms: 80_000 }])
  await back.result(start, { run_ms: 60_000 })
  expect(await market.task(alice, id)).toMatchObject({ status: 'completed', cost: '0.06', attempts_count: 1 })
})

test('each heartbeat renews the deadline of what the agent is to go on with', async () => {
  await market.submit(alice)
  const start = await agent.begin()
  expect(await agent.heartbeat([{ start, run_ms: 0 }])).toMatchObject({
    attempts: [{ attempt_id: start.attempt_id, fencing_token: start.fencing_token, deadline_in_ms: 80_000 }],
  })
})

test('a GPU that its agent no longer reports is offline, and what ran there goes on until it is heard of', async () => {
  await agent.report({ type: 'devices', devices: [] })
  expect(await seen()).toEqual(['alive', 'offline'])
  await agent.report({ type: 'devices', devices: agent.devices })
  expect(await seen()).toEqual(['alive', 'available'])
  await agent.report({ type: 'devices', devices: [{ ...agent.devices[0], paused: true }] })
  expect(await seen()).toEqual(['alive', 'maintenance'])
})
