import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { api } from '@orbyte/protocol'
import type { ScriptedAgent } from '../agents/fixture-agent.ts'
import { type Market, startMarket } from '../fixture-market.ts'
import type { TestUser } from '../fixture-server.ts'

// Who gets the GPU when it is free: through HTTP and an agent's socket.

const secrets = { secretKey: 'a secret key for tests', ledgerKey: 'a ledger key for tests' }
let folder: string
let market: Market
let alice: TestUser
let bob: TestUser
let provider: TestUser
let agent: ScriptedAgent
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'orbyte-shares-'))
  market = await open()
  alice = await market.person('1000')
  bob = await market.person('1000')
  provider = await market.person()
  agent = await market.machine(provider)
})
afterEach(async () => {
  await market.close()
  await rm(folder, { recursive: true })
})

const open = (outside = {}) => startMarket({ config: { databasePath: join(folder, 'orbyte.db'), ...secrets }, outside })

/** Runs whatever comes for `runMs`, and says which of the tasks it was. */
async function runNext(runMs: number): Promise<string> {
  const start = await agent.begin()
  market.clock.advance(runMs)
  await agent.heartbeat()
  await agent.result(start, { run_ms: runMs })
  return start.task_id
}

async function submit(renter: TestUser, count: number): Promise<string[]> {
  const tasks = Array.from({ length: count }, () => ({ task_type: 'other' as const, input_data: {}, wait: true }))
  const { items } = await market.ask(renter, api.tasks.createBatch, { tasks })
  return items.map(({ id }) => id)
}

async function whoseTurns(runs: number, of: { alice: string[] }): Promise<string> {
  let turns = ''
  for (let run = 0; run < runs; run++) turns += of.alice.includes(await runNext(10_000)) ? 'A' : 'B'
  return turns
}

test('a renter who has used the GPU for a minute waits until another has, too', async () => {
  const own = await submit(alice, 10)
  for (let run = 0; run < 6; run++) expect(own).toContain(await runNext(10_000))
  await submit(bob, 10)
  // The GPU had been asked to take alice's seventh when bob came.
  expect(await whoseTurns(8, { alice: own })).toBe('ABBBBBBB')
})

test('a renter of weight three gets three times as much', async () => {
  const admin = await market.admin()
  const share = await market.ask(admin, api.admin.setWeight, { user_id: bob.id, weight: 3 })
  expect(share).toMatchObject({ user_id: bob.id, weight: 3 })
  const own = await submit(alice, 20)
  await submit(bob, 20)
  const turns = await whoseTurns(16, { alice: own })
  expect([...turns].filter((turn) => turn === 'B')).toHaveLength(12)
})

test('an administrator sees who has had how much and who waits, also after a restart', async () => {
  const admin = await market.admin()
  await market.ask(admin, api.admin.setWeight, { user_id: bob.id, weight: 0.5 })
  await submit(alice, 2)
  await runNext(36_000)
  const start = await agent.next('attempt.start')
  await agent.accept(start)
  await submit(bob, 3)
  const shares = () => market.ask(admin, api.admin.shares, {})
  expect(await shares()).toEqual({
    items: [
      { user_id: alice.id, weight: 1, gpu_hours: expect.closeTo(0.01, 4), gpus: 1, waiting: 0 },
      { user_id: bob.id, weight: 0.5, gpu_hours: 0, gpus: 0, waiting: 3 },
    ],
  })
  const { clock } = market
  await market.close()
  market = await open({ clock })
  market.clock = clock
  expect(await shares()).toEqual({
    items: [
      { user_id: alice.id, weight: 1, gpu_hours: expect.closeTo(0.01, 4), gpus: 1, waiting: 0 },
      { user_id: bob.id, weight: 0.5, gpu_hours: 0, gpus: 0, waiting: 3 },
    ],
  })
})

test('a weight is a number above zero, and of a user that there is', async () => {
  const admin = await market.admin()
  for (const weight of [0, -1, 101])
    expect(await market.attempt(admin, api.admin.setWeight, { user_id: bob.id, weight })).toMatchObject({ status: 400 })
  const nobody = bob.id.replace(/.$/, (last) => (last === '0' ? '1' : '0'))
  expect(await market.attempt(admin, api.admin.setWeight, { user_id: nobody, weight: 2 })).toMatchObject({
    status: 404,
  })
  expect(await market.ask(admin, api.admin.shares, {})).toEqual({ items: [] })
})
