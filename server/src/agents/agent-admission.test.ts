import { afterEach, beforeEach, expect, test } from 'vitest'
import { api } from '@orbyte/protocol'
import { type Market, startMarket } from '../fixture-market.ts'
import type { TestUser } from '../fixture-server.ts'
import { connectAgent, deviceWire, helloOf, newMachine, openSocket } from './fixture-agent.ts'

let market: Market
let owner: TestUser
beforeEach(async () => {
  market = await startMarket({ limits: { agentsPerOwnerMax: 2 } })
  owner = await market.person()
})
afterEach(() => market.close())

const enrol = async () => newMachine((await market.ask(owner, api.agentTokens.create, { name: 'machine' })).token)

test('an agent whose key is revoked while it is let in does not stay', async () => {
  const machine = await enrol()
  const devices = [deviceWire({ uuid: 'GPU-1' })]
  const first = await connectAgent(market.url, machine, { devices })
  await first.disconnect()
  const line = openSocket(market.url)
  const { nonce } = await line.next('challenge')
  // Both are on their way at once, in whichever order they arrive.
  line.send(helloOf(machine, nonce, { devices }))
  await market.ask(owner, api.agents.revoke, { agent_id: first.id })
  expect(await line.next('refused')).toMatchObject({ code: 'agent_revoked', retry: false })
  expect((await market.ask(owner, api.agents.list, {})).items).toMatchObject([{ status: 'revoked', connected: false }])
  expect((await market.ask(null, api.gpus.list, { available: true })).items).toEqual([])
})

test('an account has no more machines than it may have, until one is revoked', async () => {
  const [one] = [
    await connectAgent(market.url, await enrol(), { devices: [] }),
    await connectAgent(market.url, await enrol(), { devices: [] }),
  ]
  const third = await enrol()
  const line = openSocket(market.url)
  line.send(helloOf(third, (await line.next('challenge')).nonce))
  expect(await line.next('refused')).toMatchObject({ code: 'too_many_agents', retry: false })
  await market.ask(owner, api.agents.revoke, { agent_id: one!.id })
  await connectAgent(market.url, third, { devices: [] })
})

test('a machine of a suspended owner is told to come back, and is let in when the suspension is lifted', async () => {
  const admin = await market.admin()
  const machine = await enrol()
  const agent = await connectAgent(market.url, machine, { devices: [] })
  await market.ask(admin, api.admin.suspendUser, { user_id: owner.id, reason: 'a test' })
  expect(await agent.next('refused')).toMatchObject({ code: 'user_suspended', retry: true })
  const line = openSocket(market.url)
  line.send(helloOf(machine, (await line.next('challenge')).nonce))
  expect(await line.next('refused')).toMatchObject({ code: 'user_suspended', retry: true })
  await market.ask(admin, api.admin.restoreUser, { user_id: owner.id })
  await connectAgent(market.url, machine, { devices: [] })
})

test('an agent that connects again and again is told to come later, and is let in then', async () => {
  const machine = await enrol()
  const come = async () => {
    const line = openSocket(market.url)
    line.send(helloOf(machine, (await line.next('challenge')).nonce))
    return line
  }
  for (let times = 0; times < 12; times++) {
    await (await come()).next('welcome')
    market.clock.advance(1_000)
  }
  expect(await (await come()).next('refused')).toMatchObject({
    code: 'too_many_connections',
    retry: true,
    message: 'This agent has connected 12 times in 60 s. It is let in again in 48 s.',
  })
  market.clock.advance(48_000)
  await (await come()).next('welcome')
})

test('a hello that is far too long is not read', async () => {
  const line = openSocket(market.url)
  line.send(helloOf(await enrol(), (await line.next('challenge')).nonce, { hostname: 'x'.repeat(1_100_000) }))
  expect(await line.next('refused')).toMatchObject({ code: 'invalid_message' })
})
