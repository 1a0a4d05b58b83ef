import { expect, test } from 'vitest'
import { simulatedClock } from './simulated-clock.ts'
import { simulatedProcess } from './simulated-process.ts'

async function runTo(clock: ReturnType<typeof simulatedClock>, untilMs: number) {
  let steps = 0
  while (await clock.step(untilMs)) steps++
  return steps
}

test('events come at their time, in the order in which they were asked for', async () => {
  const clock = simulatedClock()
  const seen: string[] = []
  const note = (name: string) => () => void seen.push(`${name} at ${clock.nowMs()}`)
  clock.after(20, note('late'))
  clock.after(10, note('first'))
  clock.after(10, note('second'))
  clock.after(15, note('never'))()
  expect(await runTo(clock, 18)).toBe(2)
  expect([clock.nowMs(), seen]).toEqual([18, ['first at 10', 'second at 10']])
  await runTo(clock, 100)
  expect(seen.at(-1)).toBe('late at 20')
})

test('all that follows from an event at once is done before the next one', async () => {
  const clock = simulatedClock()
  const seen: string[] = []
  clock.after(
    1,
    () =>
      void Promise.resolve()
        .then(() => Promise.resolve())
        .then(() => seen.push('followed')),
  )
  clock.after(1, () => void seen.push('next'))
  await runTo(clock, 1)
  expect(seen).toEqual(['followed', 'next'])
})

test('a killed process hears nothing any more: its timers do not fire and its promises do not resolve', async () => {
  const clock = simulatedClock()
  const process = simulatedProcess(clock, 'victim')
  const seen: string[] = []
  process.after(10, () => void seen.push('timer'))
  void process.pause(10).then(() => seen.push('promise'))
  process.answer(process.pause(5), () => seen.push('answer'), 20)
  process.kill()
  await runTo(clock, 100)
  expect(seen).toEqual([])
})

test('an answer that left before its process died arrives', async () => {
  const clock = simulatedClock()
  const process = simulatedProcess(clock, 'victim')
  const seen: unknown[] = []
  process.answer(
    process.pause(5).then(() => 7),
    (outcome) => seen.push(outcome),
    20,
  )
  await runTo(clock, 10)
  process.kill()
  await runTo(clock, 100)
  expect(seen).toEqual([{ value: 7 }])
})

test('a frozen process catches up, in order; the timers of a machine that slept go on where they were', async () => {
  const clock = simulatedClock()
  const seen: string[] = []
  const frozen = simulatedProcess(clock, 'frozen')
  const asleep = simulatedProcess(clock, 'asleep')
  for (const process of [frozen, asleep])
    for (const delayMs of [10, 20, 60])
      process.after(delayMs, () => void seen.push(`${process.name} ${delayMs} at ${clock.nowMs()}`))
  await runTo(clock, 5)
  frozen.freeze()
  asleep.freeze()
  await runTo(clock, 45)
  frozen.thaw()
  asleep.thaw(40)
  await runTo(clock, 200)
  expect(seen.filter((line) => line.startsWith('frozen'))).toEqual([
    'frozen 10 at 45',
    'frozen 20 at 45',
    'frozen 60 at 60',
  ])
  expect(seen.filter((line) => line.startsWith('asleep'))).toEqual([
    'asleep 10 at 50',
    'asleep 20 at 60',
    'asleep 60 at 100',
  ])
})
