import { afterEach, beforeEach, expect, test } from 'vitest'
import { api } from '@orbyte/protocol'
import type { ScriptedAgent } from '../agents/fixture-agent.ts'
import { type Market, startMarket } from '../fixture-market.ts'
import type { TestUser } from '../fixture-server.ts'

let market: Market
let alice: TestUser
let broken: ScriptedAgent
let sound: ScriptedAgent
beforeEach(async () => {
  market = await startMarket()
  alice = await market.person('100')
  broken = await market.machine(await market.person(), [{ price_per_hour: '1' }])
  sound = await market.machine(await market.person(), [{ price_per_hour: '3.6' }])
})
afterEach(() => market.close())

const gpu = ({ gpuId }: ScriptedAgent) => market.ask(null, api.gpus.get, { gpu_id: gpuId })

async function pass(seconds: number) {
  for (let left = seconds; left > 0; left -= 10) {
    market.clock.advance(10_000)
    await Promise.all([broken.heartbeat(), sound.heartbeat()])
  }
}

async function failOn(agent: ScriptedAgent) {
  await agent.result(await agent.begin(), { outcome: 'failed', code: 'driver_lost', message: 'The driver is gone.' })
}

/** Three tasks begin on the cheap GPU, fail there, and are done by the other. */
async function breakIt() {
  for (const waitSeconds of [30, 60, 120]) {
    const { id } = await market.submit(alice)
    await failOn(broken)
    await sound.result(await sound.begin())
    expect(await market.task(alice, id)).toMatchObject({ status: 'completed', attempts_count: 2 })
    expect((await gpu(broken)).health).toBe('cooling_down')
    await pass(waitSeconds)
  }
}

test('a GPU that has failed three times in a row is on trial: nobody gets it while another is free', async () => {
  await breakIt()
  expect(await gpu(broken)).toMatchObject({ health: 'on_trial', status: 'available', cool_down_until: null })
  for (let tasks = 0; tasks < 3; tasks++) {
    await market.submit(alice)
    await sound.result(await sound.begin())
  }
  expect(broken.untaken('attempt.start')).toEqual([])
})

test('a failed trial is no attempt of the task’s; the next one comes after a longer cool-down', async () => {
  await breakIt()
  const busy = await market.submit(alice)
  const start = await sound.begin()
  const { id } = await market.submit(alice)
  await failOn(broken)
  const task = await market.task(alice, id)
  expect(task).toMatchObject({ status: 'pending', attempts_count: 0, attempts: [{ trial: true, status: 'failed' }] })
  const { cool_down_until: until } = await gpu(broken)
  expect(Date.parse(until!) - market.clock.now()).toBe(240_000)
  await sound.result(start)
  await sound.result(await sound.begin())
  expect(await market.task(alice, id)).toMatchObject({ status: 'completed', attempts_count: 1 })
  expect((await market.task(alice, busy.id)).attempts).toMatchObject([{ trial: false }])
})

test('one success ends the trial', async () => {
  await breakIt()
  await market.submit(alice)
  const start = await sound.begin()
  await market.submit(alice)
  await broken.result(await broken.begin())
  expect(await gpu(broken)).toMatchObject({ health: 'good', tasks_failed: 3, tasks_completed: 1 })
  await sound.result(start)
})

test('an agent that never answers what it is offered is asked three times, and then only where nobody else is free', async () => {
  for (let minutes = 0; minutes < 60; minutes++) {
    const { id } = await market.submit(alice, { max_cost: '0.01' })
    const asks = (message: object) => 'task_id' in message && message.task_id === id
    const chosen = await market.until(
      () =>
        market.task(alice, id).then(() => [broken, sound].find((agent) => agent.untaken('attempt.start').some(asks))),
      (agent) => agent !== undefined,
    )
    if (chosen === broken) market.clock.advance(5_000)
    await sound.result(await sound.begin())
    await pass(50)
  }
  expect(broken.untaken('attempt.start')).toHaveLength(3)
  expect(await gpu(broken)).toMatchObject({ health: 'on_trial', tasks_failed: 0 })
})
