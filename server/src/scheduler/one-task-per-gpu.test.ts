import fc from 'fast-check'
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest'
import { api } from '@orbyte/protocol'
import type { ScriptedAgent, Start } from '../agents/fixture-agent.ts'
import { type Market, startMarket } from '../fixture-market.ts'
import type { TestUser } from '../fixture-server.ts'

let market: Market
beforeAll(async () => {
  market = await startMarket()
})
afterEach(() => market.clear())
afterAll(() => market.close())

type Held = { gpu_id: string; count: number }

/** GPUs with more than one attempt that holds them, and tasks with more than one that has not ended before them. */
function overlaps() {
  const holding = `status IN ('accepted', 'preparing', 'running')`
  return market.context.database.read(async (reader) => [
    ...(await reader.all<Held>(
      `SELECT gpu_id, count(*) AS count FROM attempt_states WHERE ${holding} GROUP BY gpu_id HAVING count(*) > 1`,
    )),
    ...(await reader.all<Held>(
      `SELECT task_id, count(*) AS count FROM attempts WHERE ended_at IS NULL GROUP BY task_id HAVING count(*) > 1`,
    )),
  ])
}

test('two tasks for one GPU run one after the other', async () => {
  const [alice, carol] = [await market.person('10'), await market.person('10')]
  const agent = await market.machine(await market.person())
  const tasks = await Promise.all([alice, carol].map((renter) => market.submit(renter)))
  const first = await agent.begin()
  await agent.heartbeat()
  expect(agent.untaken('attempt.start')).toEqual([])
  market.clock.advance(10)
  await agent.result(first, { run_ms: 10 })
  const second = await agent.begin()
  expect([first.task_id, second.task_id].sort()).toEqual(tasks.map(({ id }) => id).sort())
  await agent.result(second)
  const { items } = await market.ask(alice, api.tasks.list, {})
  expect(items).toMatchObject([{ status: 'completed' }])
})

const anyStep = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.record({ do: fc.constant('submit' as const), renter: fc.nat(1), machine: fc.option(fc.nat(2)) }),
  },
  { weight: 8, arbitrary: fc.record({ do: fc.constant('answer' as const), machine: fc.nat(2), refuse: fc.boolean() }) },
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constant('end' as const),
      machine: fc.nat(2),
      how: fc.constantFrom('completed', 'failed'),
    }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('cancel' as const), renter: fc.nat(1) }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('wait' as const), ms: fc.integer({ min: 1, max: 6_000 }) }) },
  {
    weight: 1,
    arbitrary: fc.record({ do: fc.constant('reconnect' as const), machine: fc.nat(2), remembers: fc.boolean() }),
  },
)
type Step = typeof anyStep extends fc.Arbitrary<infer S> ? S : never
type Machine = { agent: ScriptedAgent; accepted: Start[] }

/** What may happen in a market of three GPUs and two renters. Not all of it is awaited, so that steps overlap. */
async function take(step: Step, { renters, machines }: { renters: TestUser[]; machines: Machine[] }): Promise<void> {
  const machine = machines['machine' in step && step.machine !== null ? step.machine : 0]!
  const { agent, accepted } = machine
  switch (step.do) {
    case 'submit': {
      const requirements = step.machine === null ? {} : { gpu_id: agent.gpuId }
      await market.submit(renters[step.renter]!, { requirements, wait: true, max_price_per_hour: '9' })
      return
    }
    case 'answer': {
      if (agent.untaken('attempt.start').length === 0) return
      const start = await agent.next('attempt.start')
      if (step.refuse) return agent.refuse(start)
      accepted.push(start)
      agent.accept(start).catch(() => {})
      return agent.ready(start)
    }
    case 'end': {
      const start = accepted.shift()
      if (start) await agent.result(start, { outcome: step.how, run_ms: 5 })
      return
    }
    case 'cancel': {
      const renter = renters[step.renter]!
      const [task] = (await market.ask(renter, api.tasks.list, { status: 'running' })).items
      if (task) await market.attempt(renter, api.tasks.cancel, { task_id: task.id })
      return
    }
    case 'wait':
      return market.clock.advance(step.ms)
    case 'reconnect': {
      if (!step.remembers) accepted.length = 0
      const attempts = accepted.map((start) => ({ ...agent.ref(start), status: 'running', run_ms: 0 }))
      machine.agent = await market.reconnect(agent, { attempts })
      return agent.disconnect().then(() => {})
    }
  }
}

/** What is on its way when its machine reconnects is never acknowledged. */
function unlessHungUp(error: Error) {
  if (!error.message.includes('the server has hung up')) throw error
}

test('whatever happens in whatever order, no GPU has two attempts at a time, and no task has two that are open', async () => {
  const bob = await market.person()
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.array(anyStep, { minLength: 1, maxLength: 4 }), { minLength: 10, maxLength: 30 }),
      async (rounds) => {
        const renters = [await market.person('1000'), await market.person('1000')]
        const machines: Machine[] = []
        for (let count = 0; count < 3; count++) machines.push({ agent: await market.machine(bob), accepted: [] })
        for (const steps of rounds) {
          // Once each has been answered, the offers of the round before have arrived.
          await Promise.all(machines.map(({ agent }) => agent.heartbeat()))
          await Promise.all(steps.map((step) => take(step, { renters, machines }).catch(unlessHungUp)))
          expect(await overlaps()).toEqual([])
        }
        expect(await market.ledgerProblems()).toEqual([])
        await market.clear()
      },
    ),
    { numRuns: 8, endOnFailure: true },
  )
})
