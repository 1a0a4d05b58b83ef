import { expect, test } from 'vitest'
import { startMarket } from '../fixture-market.ts'
import { marketGpu } from '../gpus/fixture-gpus.ts'
import { makeOf } from '../gpus/gpu-names.ts'
import { manualClock } from '../manual-clock.ts'
import { wanted } from './fixture-wanted.ts'
import { createLoadTimes } from './load-times.ts'
import { createMeasuredTimings } from './measured-timings.ts'
import { createRecentDemand } from './recent-demand.ts'

const [slow, fast, unknown] = ['RTX 3060', 'NVIDIA H100', 'T4'].map((model) => marketGpu({ model }))
const asked = wanted({ modelName: 'm' })

function timingsWith(rates: ReadonlyMap<string, number>) {
  const clock = manualClock(1_800_000_000_000)
  const demand = createRecentDemand()
  let gathered = 0
  const usualRates = () => {
    gathered++
    return rates
  }
  const { timings } = createMeasuredTimings({ clock, speeds: { usualRates }, demand })
  return { clock, demand, timings, gathered: () => gathered }
}

test('a run is as long as such tasks run lately, scaled by how fast the make is beside the others', () => {
  const { demand, timings } = timingsWith(
    new Map([
      [makeOf(slow!), 1],
      [makeOf(fast!), 4],
      ['gpu rtx4090', 2],
    ]),
  )
  demand.completed(asked, 10_000)
  expect([slow, fast, unknown].map((gpu) => timings.runMs(asked, gpu!))).toEqual([20_000, 5_000, 10_000])
})

test('without runs of such tasks only the makes differ, and without speeds nothing is known', () => {
  const measured = timingsWith(new Map([[makeOf(fast!), 4]])).timings
  expect([measured.runMs(asked, fast!), measured.runMs(asked, slow!)]).toEqual([60_000, null])
  expect(timingsWith(new Map()).timings.runMs(asked, fast!)).toBeNull()
  expect(measured.runMs(wanted(), fast!)).toBeNull()
})

test('speeds are gathered again only after a while', () => {
  const { clock, timings, gathered } = timingsWith(new Map())
  for (let count = 0; count < 10; count++) timings.runMs(asked, fast!)
  expect(gathered()).toBe(1)
  clock.advance(10_000)
  timings.runMs(asked, fast!)
  expect(gathered()).toBe(2)
})

test('how long a model takes to load is the median of the last ones, each way of having it by itself', () => {
  const times = createLoadTimes()
  for (const ms of [9, 1, 5]) times.add('m', 'cached', ms)
  for (let ms = 1; ms <= 100; ms++) times.add('m', 'absent', ms)
  expect([times.of('m', 'cached'), times.of('m', 'absent'), times.of('m', 'loaded')]).toEqual([5, 90, null])
})

test('a GPU that took long to get a model ready is passed over for a dearer one that has it', async () => {
  const market = await startMarket()
  const [alice, bob] = [await market.person('100'), await market.person()]
  const fields = { own_models: ['m'], task_types: ['text_generation' as const] }
  const cold = await market.machine(bob, [{ ...fields, price_per_hour: '3.6' }])
  const warm = await market.machine(bob, [{ ...fields, price_per_hour: '4.5', loaded_models: ['m'] }])
  const submit = () =>
    market.submit(alice, { task_type: 'text_generation', input_data: { prompt: 'Once', model: 'm', max_tokens: 9 } })

  await submit()
  const start = await cold.next('attempt.start')
  await cold.accept(start)
  for (let seconds = 0; seconds < 40; seconds += 5) {
    market.clock.advance(5_000)
    await Promise.all([cold.heartbeat(), warm.heartbeat()])
  }
  await cold.ready(start)
  market.clock.advance(1_000)
  const output_data = { text: 'upon', finish_reason: 'stop', prompt_tokens: 1, completion_tokens: 1 }
  await cold.result(start, { run_ms: 1_000, output_data })

  await submit()
  expect(await warm.next('attempt.start')).toMatchObject({ task_type: 'text_generation' })
  await market.close()
})
