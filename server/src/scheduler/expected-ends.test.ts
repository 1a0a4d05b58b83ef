import { wholeMilli } from '@orbyte/protocol'
import { expect, test } from 'vitest'
import { marketGpu } from '../gpus/fixture-gpus.ts'
import { manualClock } from '../manual-clock.ts'
import type { ActiveAttempt } from './attempt-book.ts'
import { createExpectedEnds } from './expected-ends.ts'
import { wanted } from './fixture-wanted.ts'
import type { Timings } from './expected-cost.ts'
import type { QueuedTask } from './task-queue.ts'

const startMs = 1_800_000_000_000
const [acceptMs, deadMs] = [5_000, 90_000]
const gpu = marketGpu()

/** An attempt at a task of at most 60 s, asked for at the start; only what is read of it. */
function endsWith(fields: Partial<ActiveAttempt>, timings: Timings | null = null) {
  const clock = manualClock(startMs)
  const task = { max_duration_ms: 60_000 }
  const queued = { task, wanted: wanted({ timings }) } as unknown as QueuedTask
  const usual = { standing: 'open', askedAtMs: startMs, readyAtMs: null, warmth: 'cached', durationMsMax: 60_000 }
  const taken = [{ gpuId: gpu.id, milli: wholeMilli }]
  const active = { queued, taken, ...usual, ...fields } as unknown as ActiveAttempt
  const config = { timing: { acceptMs, deadMs } }
  const ends = createExpectedEnds({ clock, config }, { book: { ofGpu: () => [active] } })
  const at = (afterMs: number) => {
    clock.advance(startMs + afterMs - clock.now())
    const [{ expectedEndMs, latestEndMs }] = ends.occupantsOf(gpu) as [ReturnType<typeof ends.occupantsOf>[number]]
    return [expectedEndMs - startMs, latestEndMs - startMs]
  }
  return { ends, at, queued }
}
const measured = (runMs: number | null): Timings => ({
  runMs: () => runMs,
  loadMs: (_wanted, _gpu, warmth) => (warmth === 'absent' ? 8_000 : 2_000),
})

test('an attempt that runs ends after its usual time, or once that is over, when it has to', () => {
  const { at } = endsWith({ readyAtMs: startMs + 1_000 }, measured(20_000))
  expect(at(5_000)).toEqual([21_000, 61_000])
  expect(at(21_000)).toEqual([61_000, 61_000])
  expect(at(70_000)).toEqual([70_000, 70_000])
})

test('where nothing was measured, or more than it may run, it is expected to end when it has to', () => {
  expect(endsWith({ readyAtMs: startMs }).at(0)).toEqual([60_000, 60_000])
  expect(endsWith({ readyAtMs: startMs }, measured(90_000)).at(0)).toEqual([60_000, 60_000])
})

test('one that is not ready yet gets ready as such tasks do, at the latest as if it had to fetch everything', () => {
  const { at, ends, queued } = endsWith({}, measured(20_000))
  expect(at(0)).toEqual([22_000, acceptMs + 8_000 + 60_000])
  // As late as it was taken to be before it was asked.
  expect(ends.latestEndMs(queued, gpu) - startMs).toBe(at(0)[1])
  expect(at(30_000)).toEqual([50_000, 90_000])
})

test('one that was told to stop holds its GPU until its agent says so or is dead', () => {
  expect(endsWith({ standing: 'stopped' }).at(1_000)).toEqual([1_000, 1_000 + deadMs])
})
