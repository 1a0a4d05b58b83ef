import { expect, test } from 'vitest'
import { api, formatOrb } from '@orbyte/protocol'
import { startMarket } from '../fixture-market.ts'

test('a queue that takes long to look through is looked through in parts, to its end', async () => {
  const market = await startMarket({ limits: { pendingTasksPerUserMax: 5_000 } })
  const [alice, bob] = [await market.person('100'), await market.person()]
  const devices = Array.from({ length: 10 }, (_, index) => ({ uuid: `GPU-of-ten-${index}`, price_per_hour: '9' }))
  const agent = await market.machine(bob, devices)
  const shared = { task_type: 'other' as const, input_data: {}, wait: true, max_cost: '0.001' }
  for (const first of [0, 1_000]) {
    const prices = Array.from({ length: 1_000 }, (_, index) => formatOrb(1_000_000 + first + index))
    const tasks = prices.map((max_price_per_hour) => ({ ...shared, max_price_per_hour }))
    await market.ask(alice, api.tasks.createBatch, { tasks })
  }
  const { id } = await market.ask(alice, api.tasks.create, { ...shared, max_price_per_hour: '9' })
  await agent.heartbeat()
  expect(agent.untaken('attempt.start')).toEqual([])
  const found = await market.until(
    async () => {
      market.clock.advance(1)
      await agent.heartbeat()
      return agent.untaken('attempt.start')
    },
    ({ length }) => length > 0,
  )
  expect(found).toMatchObject([{ task_id: id }])
  await market.close()
})
