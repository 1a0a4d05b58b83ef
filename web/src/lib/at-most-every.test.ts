import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { atMostEvery } from './at-most-every.ts'

beforeEach(() => void vi.useFakeTimers())
afterEach(() => void vi.useRealTimers())

test('what is asked for often is done once in its time, and not put off for ever', async () => {
  let done = 0
  const often = atMostEvery(500, async () => done++)
  for (let asked = 0; asked < 100; asked++) {
    often.ask()
    await vi.advanceTimersByTimeAsync(50)
  }
  expect(done).toBe(10)
})

test('what takes longer than that is never done twice at a time, and once more for what was asked meanwhile', async () => {
  const endings: (() => void)[] = []
  const slow = atMostEvery(500, () => new Promise<void>((resolve) => endings.push(resolve)))
  slow.ask()
  await vi.advanceTimersByTimeAsync(500)
  slow.ask()
  await vi.advanceTimersByTimeAsync(10_000)
  expect(endings.length).toBe(1)
  endings[0]!()
  await vi.advanceTimersByTimeAsync(500)
  expect(endings.length).toBe(2)
})

test('nothing is done any more once it is stopped', async () => {
  let done = 0
  const stopped = atMostEvery(500, async () => done++)
  stopped.ask()
  stopped.stop()
  stopped.ask()
  await vi.advanceTimersByTimeAsync(5_000)
  expect(done).toBe(0)
})
