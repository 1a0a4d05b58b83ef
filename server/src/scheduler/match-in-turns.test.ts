import fc from 'fast-check'
import { expect, test } from 'vitest'
import { micros } from '@orbyte/protocol'
import { gpuId, marketGpu } from '../gpus/fixture-gpus.ts'
import type { MarketGpu } from '../gpus/gpu-registry.ts'
import type { OpenTask } from '../tasks/task-store.ts'
import { type Look, matchInTurns } from './match-in-turns.ts'
import { chooseBest, judgeFit, judgeNow, keyOf, type Wanted, wantedOf } from './matching.ts'
import { createTaskQueue, type QueuedTask } from './task-queue.ts'

const nowMs = 1_800_000_000_000
type Given = { renter: number; priority: number; minVram: number | null; price: number; failed: number[] }

/** A waiting task; `failed`: GPUs that have refused it, those with an even number may be asked again. */
function queuedOf({ renter, priority, minVram, price, failed }: Given, number: number): QueuedTask {
  const task = {
    id: `task_${String(number).padStart(6, '0')}`,
    renter_id: `user_${renter}`,
    priority,
    task_type: 'text_generation',
    requirements: minVram === null ? {} : { min_vram_gb: minVram },
    model: null,
    max_price_per_hour: micros(price),
  } as unknown as OpenTask
  const failedGpus = new Map(failed.map((gpu) => [gpuId(gpu), gpu % 2 === 0 ? nowMs : nowMs + 1]))
  const group = failed.length === 0 ? keyOf(task) : task.id
  return { task, wanted: wantedOf(task, null, failedGpus), group, waitUntilMs: nowMs, offers: 0, failures: [] }
}

/** The same without groups: every task looks at every GPU that is free. */
function matchOneByOne(turns: readonly QueuedTask[], gpus: readonly MarketGpu[], random: number) {
  const free = new Set(gpus)
  const best = (wanted: Wanted) => {
    const verdicts = [...free].map((gpu) => judgeNow(wanted, gpu, nowMs))
    return chooseBest(verdicts, random)
  }
  return turns.flatMap(({ task, wanted }) => {
    const others = gpus.some((gpu) => !wanted.failedGpus.has(gpu.id) && !judgeFit(wanted, gpu, nowMs).rejection)
    const gpu = best(wanted) ?? (others ? null : best({ ...wanted, retryFailed: true }))
    if (gpu) free.delete(gpu)
    return gpu ? [[task.id, gpu.id]] : []
  })
}

function lookAt(tasks: readonly QueuedTask[], gpus: readonly MarketGpu[], fields: Partial<Look> = {}): Look {
  const queue = createTaskQueue()
  for (const task of tasks) queue.add(task)
  return {
    turns: queue.inTurns(),
    groups: queue.groups(),
    free: new Set(gpus),
    all: () => gpus,
    isWaiting: () => true,
    nowMs: () => nowMs,
    random: () => 0,
    ...fields,
  }
}

const anyTask = fc.record({
  renter: fc.nat(3),
  priority: fc.nat(2),
  minVram: fc.constantFrom(null, 10, 24, 48),
  price: fc.constantFrom(1_000, 2_000, 3_000),
  failed: fc.oneof(
    { weight: 3, arbitrary: fc.constant<number[]>([]) },
    { weight: 1, arbitrary: fc.array(fc.integer({ min: 1, max: 6 }), { maxLength: 4 }) },
  ),
})
const anyGpus = fc.array(
  fc.record({ price: fc.constantFrom(900, 1_900, 2_900), vramGb: fc.constantFrom(8, 24, 80), cooling: fc.boolean() }),
  { maxLength: 6 },
)

test('judging a group at once finds the same GPUs for the same tasks as judging each task by itself', () => {
  fc.assert(
    fc.property(
      fc.array(anyTask, { maxLength: 40 }),
      anyGpus,
      fc.double({ min: 0, max: 1, noNaN: true }),
      (given, hardware, random) => {
        const gpus = hardware.map(({ price, vramGb, cooling }, index) => {
          const coolDownUntilMs = cooling ? nowMs + 1 : 0
          return marketGpu({ id: gpuId(index + 1), priceMicrosPerHour: micros(price), vramGb, coolDownUntilMs })
        })
        const look = lookAt(given.map(queuedOf), gpus, { random: () => random })
        const found = [...matchInTurns(look)].map((match) => match && [match.queued.task.id, match.gpu.id])
        expect(found).toEqual(matchOneByOne(look.turns, gpus, random))
      },
    ),
    { numRuns: 300 },
  )
})

/** A GPU that counts how often it is looked at. */
function countedGpu(number: number, count: () => void): MarketGpu {
  const gpu = marketGpu({ id: gpuId(number), priceMicrosPerHour: micros(5_000) })
  return new Proxy(gpu, {
    get(target, name) {
      if (name === 'kind') count()
      return Reflect.get(target, name) as unknown
    },
  })
}

const unmatchable = { renter: 0, priority: 5, minVram: null, price: 1_000, failed: [] }

test('of many tasks that want the same and find nothing, only the first looks at the GPUs', () => {
  let judged = 0
  const gpus = Array.from({ length: 100 }, (_, index) => countedGpu(index + 1, () => judged++))
  const wants = { requirements: { kinds: ['gpu' as const] } }
  const tasks = Array.from({ length: 20_000 }, (_, number) => {
    const queued = queuedOf(unmatchable, number)
    return { ...queued, wanted: { ...queued.wanted, ...wants } }
  })
  expect([...matchInTurns(lookAt(tasks, gpus))]).toEqual([])
  expect(judged).toBe(100)
})

test('a look that takes long pauses, goes on where it was, and judges no more than a bounded number between two pauses', () => {
  let judged = 0
  const gpus = Array.from({ length: 50 }, (_, index) => countedGpu(index + 1, () => judged++))
  const tasks = Array.from({ length: 2_000 }, (_, number) => {
    const queued = queuedOf({ ...unmatchable, price: 1_000 + number }, number)
    return { ...queued, wanted: { ...queued.wanted, requirements: { kinds: ['gpu' as const] } } }
  })
  const fitting = queuedOf({ ...unmatchable, price: 9_000 }, 999_999)
  const pauses: number[] = []
  const found = []
  for (const match of matchInTurns(lookAt([...tasks, fitting], gpus))) {
    if (match) found.push(match.queued)
    else pauses.push(judged)
  }
  expect(found).toEqual([fitting])
  expect(pauses.length).toBeGreaterThan(5)
  for (const [index, count] of pauses.entries()) expect(count - (pauses[index - 1] ?? 0)).toBeLessThanOrEqual(10_100)
})

test('what has left the queue during a pause is not matched', () => {
  const gpus = [marketGpu({ id: gpuId(1) })]
  const tasks = [1, 2].map((number) => queuedOf({ ...unmatchable, price: 9e9 }, number))
  const found = [...matchInTurns(lookAt(tasks, gpus, { isWaiting: (queued) => queued !== tasks[0] }))]
  expect(found.map((match) => match?.queued)).toEqual([tasks[1]])
})
