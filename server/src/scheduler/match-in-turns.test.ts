import fc from 'fast-check'
import { expect, test } from 'vitest'
import { micros } from '@orbyte/protocol'
import { gpuId, marketGpu, numbered } from '../gpus/fixture-gpus.ts'
import type { MarketGpu } from '../gpus/gpu-registry.ts'
import type { OpenTask } from '../tasks/task-store.ts'
import { createPatience, type Found, type Match, matchInTurns } from './match-in-turns.ts'
import { warmthOn } from './expected-cost.ts'
import { judgeNow, keyOf, wantedOf } from './matching.ts'
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
    wanted: wantedOf(task, null, { failedGpus }),
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

const whole = (gpu: MarketGpu) => ({ gpus: [gpu], milliEach: 1_000 })

/** The first GPU that could take it, of those that are free; `looks` counts how often one was looked for. */
function freeGpus(gpus: readonly MarketGpu[]) {
  const free = new Set(gpus)
  const counts = { looks: 0 }
  function find({ wanted }: Pick<QueuedTask, 'wanted'>): Found | null {
    counts.looks++
    const gpu = [...free].find((each) => judgeNow(wanted, each, nowMs).rejection === null)
    return gpu ? { choice: whole(gpu), isWarm: warmthOn(wanted, gpu) === 'loaded' } : null
  }
  return { free, find, counts }
}

/** The same without groups: a GPU is looked for for every task in its turn. */
function matchOneByOne(tasks: readonly QueuedTask[], gpus: readonly MarketGpu[]) {
  const { free, find } = freeGpus(gpus)
  const queue = queueOf(tasks.map((queued) => ({ ...queued, group: queued.task.id })))
  const turns = queue.turns(equals)
  const found: (readonly [string, string])[] = []
  const hopeless = new Set<string>()
  for (let next = turns.next((id) => hopeless.has(id)); next; next = turns.next((id) => hopeless.has(id))) {
    const { task } = next
    const match = find(next)
    if (!match) {
      hopeless.add(task.id)
      continue
    }
    free.delete(match.choice.gpus[0]!)
    queue.remove(task.id)
    turns.taken(1)
    found.push([task.id, match.choice.gpus[0]!.id])
  }
  return found
}

type Told = Match | null
/** All matches and pauses of one look, and for how many tasks a GPU was looked for. `onFound` may change the queue. */
function matchAll(
  tasks: readonly QueuedTask[],
  gpus: readonly MarketGpu[],
  onFound: (found: Told, at: { queue: TaskQueue; looks: number }) => void = () => {},
) {
  const queue = queueOf(tasks)
  const { free, find, counts } = freeGpus(gpus)
  const all: Told[] = []
  const patience = createPatience(0)
  const turns = () => queue.turns(equals)
  const lacking: string[] = []
  const lacks = ({ task }: QueuedTask) => void lacking.push(task.id)
  for (const found of matchInTurns({ turns, find, lacks, patience, nowMs: () => nowMs })) {
    if (found) {
      queue.remove(found.queued.task.id)
      free.delete(found.choice.gpus[0]!)
    }
    onFound(found, { queue, looks: counts.looks })
    all.push(found)
  }
  return { all, looks: counts.looks, lacking }
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

test('looking once for a group finds the same GPUs for the same tasks as looking for each task by itself', () => {
  fc.assert(
    fc.property(fc.array(anyTask, { maxLength: 40 }), anyGpus, (given, hardware) => {
      const gpus = hardware.map(({ price, vramGb, cooling }, index) => {
        const coolDownUntilMs = cooling ? nowMs + 1 : 0
        return marketGpu({ ...numbered(index + 1), priceMicrosPerHour: micros(price), vramGb, coolDownUntilMs })
      })
      const tasks = given.map(queuedOf)
      const found = matchAll(tasks, gpus).all.map((match) => match && [match.queued.task.id, match.choice.gpus[0]!.id])
      expect(found).toEqual(matchOneByOne(tasks, gpus))
    }),
    { numRuns: 300 },
  )
})

const unmatchable = { renter: 0, priority: 5, minVram: 100, price: 1_000, failed: [] }
const someGpus = Array.from({ length: 10 }, (_, index) =>
  marketGpu({ ...numbered(index + 1), priceMicrosPerHour: micros(900) }),
)

test('of many tasks that want the same and find nothing, only the first is looked for', () => {
  const tasks = Array.from({ length: 20_000 }, (_, number) => queuedOf(unmatchable, number))
  expect(matchAll(tasks, someGpus)).toEqual({ all: [], looks: 1, lacking: [tasks[0]!.task.id] })
})

test('a look that takes long pauses, goes on where it was, and looks for no more than a bounded number between two pauses', () => {
  const tasks = Array.from({ length: 5_000 }, (_, number) =>
    queuedOf({ ...unmatchable, price: 1_000 + number }, number),
  )
  const fitting = queuedOf({ ...unmatchable, minVram: null, price: 9_000 }, 999_999)
  const pauses: number[] = []
  const { all } = matchAll([...tasks, fitting], someGpus, (match, { looks }) => void (match ?? pauses.push(looks)))
  expect(all.flatMap((match) => match?.queued ?? [])).toEqual([fitting])
  expect(pauses.length).toBeGreaterThan(5)
  for (const [index, count] of pauses.entries()) expect(count - (pauses[index - 1] ?? 0)).toBeLessThanOrEqual(500)
})

test('what leaves the queue during a look is not matched', () => {
  const tasks = [1, 2, 3].map((number) => queuedOf({ ...unmatchable, minVram: null }, number))
  const { all } = matchAll(tasks, someGpus, (_match, { queue }) => void queue.remove(tasks[1]!.task.id))
  expect(all.map((match) => match?.queued)).toEqual([tasks[0], tasks[2]])
})

/** A market in which every GPU holds the model that it ran last, and tasks want one of some models. */
function modelMarket({ patienceMs, models }: { patienceMs: number; models: readonly (string | null)[] }) {
  const queue = createTaskQueue({ agePerPriorityMs: 600_000 })
  const patience = createPatience(patienceMs)
  const gpus = models.map((model, index) =>
    marketGpu({ ...numbered(index + 1), ownModels: ['a', 'b', 'c'], loadedModels: model === null ? [] : [model] }),
  )
  const free = new Set(gpus)
  let atMs = nowMs
  let made = 0
  function find({ wanted }: QueuedTask): Found | null {
    const fitting = [...free].filter((gpu) => judgeNow(wanted, gpu, atMs).rejection === null)
    const gpu = fitting.find((each) => warmthOn(wanted, each) === 'loaded') ?? fitting[0]
    return gpu ? { choice: whole(gpu), isWarm: warmthOn(wanted, gpu) === 'loaded' } : null
  }
  return {
    gpus,
    /** Of a renter; the earlier it was submitted, the earlier its turn. */
    submit(model: string) {
      const queued = queuedOf({ ...unmatchable, minVram: null, price: 9e9 }, made++)
      const task = { ...queued.task, model }
      queue.add({ ...queued, task, wanted: wantedOf(task, null), group: keyOf(task) })
      return task.id
    },
    /** The GPU becomes free, with the models that it has. */
    release: (gpu: MarketGpu) => void free.add(gpu),
    wait: (ms: number) => void (atMs += ms),
    look(): [string, MarketGpu][] {
      const matches: [string, MarketGpu][] = []
      const look = { turns: () => queue.turns(equals), find, lacks: () => {}, patience, nowMs: () => atMs }
      for (const match of matchInTurns(look)) {
        if (!match) continue
        const { queued, choice } = match
        const gpu = choice.gpus[0]!
        queue.remove(queued.task.id)
        free.delete(gpu)
        Object.assign(gpu, { loadedModels: [queued.task.model] })
        matches.push([queued.task.id, gpu])
      }
      return matches
    },
    waiting: () => queue.size(),
  }
}

test('a GPU that comes free goes to a task whose model it has, before its turn, but not for longer than the patience', () => {
  const { submit, look, release, wait, gpus } = modelMarket({ patienceMs: 1_000, models: ['a'] })
  const rare = submit('b')
  const popular = Array.from({ length: 9 }, () => submit('a'))
  const [gpu] = gpus
  const next = () => look().map(([id]) => id)
  expect(next()).toEqual([popular[0]])
  for (const id of [popular[1], popular[2]]) {
    wait(400)
    release(gpu!)
    expect(next()).toEqual([id])
  }
  wait(400)
  release(gpu!)
  expect(next()).toEqual([rare])
})

test('what nobody has the model for is not left idle: it goes to whoever is first in turn', () => {
  const { submit, look, gpus } = modelMarket({ patienceMs: 1_000, models: ['c', null] })
  const [first, second] = [submit('a'), submit('b')]
  expect(look()).toEqual([
    [first, gpus[0]],
    [second, gpus[1]],
  ])
})

test('in any schedule each task gets its turn: no model waits longer than the patience and one run for those before it', () => {
  const anyStep = fc.record({
    model: fc.constantFrom('a', 'a', 'a', 'b', 'c'),
    waitMs: fc.integer({ min: 0, max: 300 }),
  })
  const runMs = 500
  const patienceMs = 1_000
  fc.assert(
    fc.property(fc.array(anyStep, { minLength: 1, maxLength: 40 }), (steps) => {
      const market = modelMarket({ patienceMs, models: ['a', 'b'] })
      const submittedAtMs = new Map<string, { atMs: number; ahead: number }>()
      const ends: { gpu: MarketGpu; atMs: number }[] = []
      let atMs = 0
      const step = (ms: number) => {
        atMs += ms
        market.wait(ms)
        for (const { gpu } of ends.filter((end) => end.atMs <= atMs)) market.release(gpu)
        ends.splice(0, ends.length, ...ends.filter((end) => end.atMs > atMs))
        for (const [id, gpu] of market.look()) {
          const { atMs: sinceMs, ahead } = submittedAtMs.get(id)!
          // Each of those ahead may be passed over for the patience, and then waits for a GPU; so may it.
          expect(atMs - sinceMs).toBeLessThanOrEqual((ahead + 1) * (patienceMs + 2 * runMs))
          ends.push({ gpu, atMs: atMs + runMs })
        }
      }
      // A market looks when a GPU is free, and often besides: what a look comes late is no wait of its making.
      const advance = (ms: number) => {
        const untilMs = atMs + ms
        do step(Math.min(untilMs - atMs, 50, ...ends.map((end) => end.atMs - atMs)))
        while (atMs < untilMs)
      }
      for (const { model, waitMs } of steps) {
        const ahead = market.waiting()
        submittedAtMs.set(market.submit(model), { atMs, ahead })
        advance(waitMs)
      }
      for (let rounds = 0; market.waiting() > 0; rounds++) {
        expect(rounds).toBeLessThan(10_000)
        advance(50)
      }
    }),
    { numRuns: 300 },
  )
})
