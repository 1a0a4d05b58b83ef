import { afterEach, beforeEach, expect, test } from 'vitest'
import { api } from '@orbyte/protocol'
import type { ScriptedAgent } from '../agents/fixture-agent.ts'
import { type Market, startMarket } from '../fixture-market.ts'
import type { TestUser } from '../fixture-server.ts'

// What people are told of room that is kept, in a market with one machine of two GPUs.

let market: Market
let alice: TestUser
let carol: TestUser
let bob: TestUser
let agent: ScriptedAgent
beforeEach(async () => {
  market = await startMarket()
  alice = await market.person('1000')
  carol = await market.person('1000')
  bob = await market.person()
  const several = { task_types: ['other' as const], model_formats: [] }
  agent = await market.machine(bob, [
    { price_per_hour: '3.6', several },
    { price_per_hour: '3.6', several },
  ])
})
afterEach(() => market.close())

type Start = Awaited<ReturnType<ScriptedAgent['begin']>>
async function pass(seconds: number, running: Start[]) {
  for (let passed = 0; passed < seconds; passed += 10) {
    market.clock.advance(10_000)
    await agent.heartbeat(running.map((start) => ({ start, run_ms: 0 })))
    // Answered after whatever the market has begun to write.
    await market.ask(null, api.gpus.list, {})
  }
}
const explain = (who: TestUser, task_id: string) => market.ask(who, api.tasks.explain, { task_id })

test('a task that wants both GPUs gets them, and until then everybody hears what they are kept for', async () => {
  await market.submit(alice, { max_duration_ms: 120_000 })
  const running = await agent.begin()
  const large = await market.submit(carol, { requirements: { gpu_count: 2 }, max_price_per_hour: '10' })
  expect(await explain(carol, large.id)).toMatchObject({ code: 'gpu_in_use', kept_room: null })
  await pass(40, [running])

  const both = agent.welcome.gpus.map(({ gpu_id }) => gpu_id)
  const room = await explain(carol, large.id)
  expect(room).toMatchObject({ code: 'room_kept', kept_room: { ready: 1 }, expected_wait: { ms: expect.any(Number) } })
  expect(new Set(room.kept_room!.gpu_ids)).toEqual(new Set(both))
  const [idle] = both.filter(
    (gpu_id) => agent.welcome.gpus.find((gpu) => gpu.gpu_id === gpu_id)!.uuid !== running.devices[0]!.uuid,
  )
  expect(await market.ask(bob, api.gpus.explain, { gpu_id: idle! })).toMatchObject({ code: 'kept_for_another_task' })

  const long = await market.submit(alice, { max_duration_ms: 600_000 })
  const reasons = async () => (await explain(alice, long.id)).offers.map(({ rejection }) => rejection?.code).sort()
  expect(await reasons()).toEqual(['gpu_in_use', 'kept_for_another_task'])
  const short = await market.submit(alice, { max_duration_ms: 5_000 })
  const between = await agent.begin()
  expect(between.task_id).toBe(short.id)
  market.clock.advance(10)
  await agent.result(between)
  await agent.result(running)

  const start = await agent.next('attempt.start')
  expect([start.task_id, start.devices.length]).toEqual([large.id, 2])
  expect(await reasons()).not.toContain('kept_for_another_task')
})
