import fc from 'fast-check'
import { expect, test } from 'vitest'
import { micros } from '@orbyte/protocol'
import { gpuId, marketGpu } from '../gpus/fixture-gpus.ts'
import type { MarketGpu } from '../gpus/gpu-registry.ts'
import type { OpenTask } from '../tasks/task-store.ts'
import { type Look, type Match, matchInTurns } from './match-in-turns.ts'
import { chooseBest, judgeFit, judgeNow, keyOf, type Wanted, wantedOf } from './matching.ts'
import { createTaskQueue, type QueuedTask, type TaskQueue } from './task-queue.ts'

const nowMs = 1_800_000_000_000
type Given = { renter: number; priority: number; minVram: number | null; price: number; failed: number[] }

/** A waiting task; `failed`: GPUs that have refused it, those with an even number may be asked again. */
function queuedOf({ renter, priority, minVram, price, failed }: Given, number: number): QueuedTask {
  const task = {
    id: `task_${String(number).padStart(6, '0')}`,
    renter_id: `user_${renter}`,
    priority,
    created_at: new Date(nowMs).toISOString(),
    task_type: 'text_generation',
    requirements: minVram === null ? {} : { min_vram_gb: minVram },
    model: null,
    max_price_per_hour: micros(price),
  } as unknown as OpenTask
  const failedGpus = new Map(failed.map((gpu) => [gpuId(gpu), gpu % 2 === 0 ? nowMs : nowMs + 1]))
  const group = failed.length === 0 ? keyOf(task) : task.id
  return {
    task,
    wanted: wantedOf(task, null, failedGpus),
    group,
    waitUntilMs: nowMs,
    triedUntil: null,
    offers: 0,
    failures: [],
  }
}

const equals = { standingOf: () => 0, stepOf: () => 1 }
function queueOf(tasks: readonly QueuedTask[]) {
  const queue = createTaskQueue({ agePerPriorityMs: 600_000 })
  for (const task of tasks) queue.add(task)
  return queue
}

/** The same without groups: every task in its turn looks at every GPU that is free. */
function matchOneByOne(tasks: readonly QueuedTask[], gpus: readonly MarketGpu[], random: number) {
  const free = new Set(gpus)
  const best = (wanted: Wanted) => {
    const verdicts = [...free].map((gpu) => judgeNow(wanted, gpu, nowMs))
    return chooseBest(verdicts, random)
  }
  const queue = queueOf(tasks.map((queued) => ({ ...queued, group: queued.task.id })))
  const turns = queue.turns(equals)
  const found: (readonly [string, string])[] = []
  const hopeless = new Set<string>()
  for (let next = turns.next((id) => hopeless.has(id)); next; next = turns.next((id) => hopeless.has(id))) {
    const { task, wanted } = next
    const others = gpus.some((gpu) => !wanted.failedGpus.has(gpu.id) && !judgeFit(wanted, gpu, nowMs).rejection)
    const gpu = best(wanted) ?? (others ? null : best({ ...wanted, retryFailed: true }))
    if (!gpu) {
      hopeless.add(task.id)
      continue
    }
    free.delete(gpu)
    queue.remove(task.id)
    turns.taken()
    found.push([task.id, gpu.id])
  }
  return found
}

type Found = Match | null
/** All matches and pauses of one look. `onFound` may change the queue. */
function matchAll(
  tasks: readonly QueuedTask[],
  gpus: readonly MarketGpu[],
  { random = 0, onFound = () => {} }: { random?: number; onFound?: (found: Found, queue: TaskQueue) => void } = {},
): Found[] {
  const queue = queueOf(tasks)
  const look: Look = {
    turns: queue.turns(equals),
    free: new Set(gpus),
    all: () => gpus,
    nowMs: () => nowMs,
    random: () => random,
  }
  const all: Found[] = []
  for (const found of matchInTurns(look)) {
    if (found) queue.remove(found.queued.task.id)
    onFound(found, queue)
    all.push(found)
  }
  return all
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
        const tasks = given.map(queuedOf)
        const found = matchAll(tasks, gpus, { random }).map((match) => match && [match.queued.task.id, match.gpu.id])
        expect(found).toEqual(matchOneByOne(tasks, gpus, random))
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
  expect(matchAll(tasks, gpus)).toEqual([])
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
  const found = matchAll([...tasks, fitting], gpus, { onFound: (match) => void (match ?? pauses.push(judged)) })
  expect(found.flatMap((match) => match?.queued ?? [])).toEqual([fitting])
  expect(pauses.length).toBeGreaterThan(5)
  for (const [index, count] of pauses.entries()) expect(count - (pauses[index - 1] ?? 0)).toBeLessThanOrEqual(10_100)
})

test('what leaves the queue during a look is not matched', () => {
  const gpus = [1, 2].map((number) => marketGpu({ id: gpuId(number) }))
  const tasks = [1, 2, 3].map((number) => queuedOf({ ...unmatchable, price: 9e9 }, number))
  const found = matchAll(tasks, gpus, { onFound: (_match, queue) => void queue.remove(tasks[1]!.task.id) })
  expect(found.map((match) => match?.queued)).toEqual([tasks[0], tasks[2]])
})
