import { expect, test } from 'vitest'
import { simulatedClock } from './simulated-clock.ts'
import { simulatedProcess } from './simulated-process.ts'

async function pass(clock: ReturnType<typeof simulatedClock>, untilMs: number) {
  while (await clock.step(untilMs));
}

test('a killed process never hears of its timers, and what it waits for never comes', async () => {
  const clock = simulatedClock()
  const process = simulatedProcess(clock, 'p')
  const heard: string[] = []
  process.after(10, () => heard.push('timer'))
  void process.pause(10).then(() => heard.push('pause'))
  process.answer(Promise.resolve(1), () => heard.push('answer'), 5)
  process.kill()
  process.run(() => heard.push('packet'))
  await pass(clock, 100)
  expect(heard).toEqual([])
})

test('it dies at the crossing that was decided, and has no effect from there on', () => {
  const process = simulatedProcess(simulatedClock(), 'p')
  process.dieAfter(3, () => process.kill())
  expect([1, 2, 3, 4].map(() => process.crosses())).toEqual([true, true, false, false])
})

test('a frozen process hears everything when it thaws, in order, each in a step of its own', async () => {
  const clock = simulatedClock()
  const process = simulatedProcess(clock, 'p')
  const heard: string[] = []
  process.freeze()
  process.after(10, () => heard.push('timer'))
  clock.after(20, () => process.run(() => heard.push('packet')))
  await pass(clock, 30)
  expect(heard).toEqual([])
  process.thaw()
  await clock.step(30)
  expect(heard).toEqual(['timer'])
  await clock.step(30)
  expect(heard).toEqual(['timer', 'packet'])
})

test('timers of a machine that was asleep have as long to go as when it fell asleep', async () => {
  const clock = simulatedClock()
  const process = simulatedProcess(clock, 'p')
  const rangMs: number[] = []
  process.after(100, () => rangMs.push(clock.nowMs()))
  clock.after(40, process.freeze)
  clock.after(1_040, () => process.thaw(1_000))
  await pass(clock, 5_000)
  expect(rangMs).toEqual([1_100])
  expect(process.sleptMs()).toBe(1_000)
})
