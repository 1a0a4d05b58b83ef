import fc from 'fast-check'
import { expect, test } from 'vitest'
import { createFairShare } from './fair-share.ts'
import { createTaskQueue, type QueuedTask, type Standings, type TaskQueue } from './task-queue.ts'

const agePerPriorityMs = 600_000
type Given = { renter: number; priority: number; number: number; atMs?: number; group?: string }

/** Only what the queue looks at. */
const queued = ({ renter, priority, number, atMs = number, group = 'any' }: Given) =>
  ({
    task: {
      id: `task_${String(number).padStart(4, '0')}`,
      renter_id: `user_${renter}`,
      priority,
      created_at: new Date(atMs).toISOString(),
    },
    group,
  }) as unknown as QueuedTask
const newQueue = (tasks: Given[] = []) => {
  const queue = createTaskQueue({ agePerPriorityMs })
  for (const task of tasks) queue.add(queued(task))
  return queue
}
const equals: Standings = { standingOf: () => 0, stepOf: () => 1 }
const none = () => false

/** Gives a GPU to everybody in turn, and says in which order. */
function serveAll(queue: TaskQueue, standings: Standings = equals, isPassedOver: (group: string) => boolean = none) {
  const turns = queue.turns(standings)
  const served = []
  for (let next = turns.next(isPassedOver); next; next = turns.next(isPassedOver)) {
    queue.remove(next.task.id)
    turns.taken(1)
    served.push(next.task)
  }
  return served
}

const anyTasks = fc
  .array(
    fc.record({
      renter: fc.nat(3),
      priority: fc.integer({ min: 0, max: 9 }),
      atMs: fc.nat(12 * agePerPriorityMs),
      group: fc.constantFrom('small', 'large', 'huge'),
    }),
    { maxLength: 40 },
  )
  .map((tasks) => tasks.map((task, number) => ({ ...task, number })))
const shuffled = (tasks: Given[]) => fc.shuffledSubarray(tasks, { minLength: tasks.length, maxLength: tasks.length })

test('a renter’s own tasks go by priority and age, in whatever order they came and whatever they want', () => {
  fc.assert(
    fc.property(anyTasks.chain(shuffled), (tasks) => {
      const served = serveAll(newQueue(tasks))
      const rank = ({ priority, atMs = 0 }: Given) => atMs - priority * agePerPriorityMs
      for (const renter of [0, 1, 2, 3]) {
        const own = tasks
          .filter((task) => task.renter === renter)
          .sort((a, b) => rank(a) - rank(b) || a.number - b.number)
        const found = served.filter(({ renter_id }) => renter_id === `user_${renter}`)
        expect(found.map(({ id }) => id)).toEqual(own.map((task) => queued(task).task.id))
      }
    }),
  )
})

test('a task of the lowest priority goes before those of the highest that come nine ages later', () => {
  const late = 9 * agePerPriorityMs
  const tasks = [
    { renter: 1, priority: 0, number: 1, atMs: 0 },
    { renter: 1, priority: 9, number: 2, atMs: late - 1 },
    { renter: 1, priority: 9, number: 3, atMs: late + 1 },
  ]
  expect(serveAll(newQueue(tasks)).map(({ id }) => id)).toEqual(['task_0002', 'task_0001', 'task_0003'])
})

test('renters who stand alike take turns: nobody has a second before everybody who waits has had a first', () => {
  fc.assert(
    fc.property(anyTasks, (tasks) => {
      const turns = serveAll(newQueue(tasks)).map(({ renter_id }) => renter_id)
      expect(turns).toHaveLength(tasks.length)
      const taken = new Map<string, number>()
      for (const renter of turns) {
        const had = taken.get(renter) ?? 0
        for (const other of new Set(turns)) {
          const all = turns.filter((one) => one === other).length
          expect(Math.min(had, all)).toBeLessThanOrEqual(taken.get(other) ?? 0)
        }
        taken.set(renter, had + 1)
      }
    }),
    { numRuns: 50 },
  )
})

test('of GPUs that are free at once, a renter gets as many as the weight says', () => {
  const tasks = Array.from({ length: 60 }, (_, number) => ({ renter: number % 2, priority: 5, number }))
  const standings = { standingOf: () => 0, stepOf: (renter: string) => (renter === 'user_1' ? 1 / 3 : 1) }
  const first = serveAll(newQueue(tasks), standings).slice(0, 20)
  expect(first.filter(({ renter_id }) => renter_id === 'user_1')).toHaveLength(15)
})

test('what is passed over keeps nobody else waiting, and what comes or leaves during a look does no harm', () => {
  const queue = newQueue([
    { renter: 1, priority: 9, number: 1, group: 'large' },
    { renter: 1, priority: 5, number: 2 },
    { renter: 1, priority: 5, number: 3 },
    { renter: 2, priority: 5, number: 4 },
  ])
  const turns = queue.turns(equals)
  const noLarge = (group: string) => group === 'large'
  expect(turns.next(noLarge)?.task.id).toBe('task_0002')
  queue.remove('task_0002')
  queue.add(queued({ renter: 1, priority: 9, number: 0 }))
  queue.remove('task_0003')
  expect(turns.next(noLarge)?.task.id).toBe('task_0000')
  queue.remove('task_0000')
  turns.taken(1)
  expect(turns.next(noLarge)?.task.id).toBe('task_0004')
  queue.remove('task_0004')
  expect(turns.next(noLarge)).toBeNull()
  expect(queue.size()).toBe(1)
})

test('the queue holds what was added and not removed', () => {
  fc.assert(
    fc.property(anyTasks, fc.array(fc.nat(45)), (tasks, removed) => {
      const queue = newQueue(tasks)
      const left = new Set(tasks.map((task) => queued(task).task.id))
      for (const number of removed) {
        const { id } = queued({ renter: 0, priority: 0, number }).task
        expect(queue.remove(id)?.task.id).toBe(left.delete(id) ? id : undefined)
        expect(queue.get(id)).toBeUndefined()
      }
      expect(queue.size()).toBe(left.size)
      const perRenter = [0, 1, 2, 3].map((renter) => queue.sizeOf(`user_${renter}`))
      expect(perRenter.reduce((sum, size) => sum + size, 0)).toBe(left.size)
      expect(new Set(serveAll(queue).map(({ id }) => id))).toEqual(left)
    }),
  )
})

/**
 * Some GPUs, and renters who ask for more than there is, without end. The very first task has the lowest priority, its renter goes
 * on asking with the highest. It goes all the same: once those of its renter's tasks have gone that came within nine ages, for
 * which the renter's share of the GPUs is enough.
 */
test('in 10,000 random schedules nobody waits for ever', () => {
  const renter = fc.record({
    weight: fc.constantFrom(0.5, 1, 4),
    everyMs: fc.integer({ min: 2_000, max: 60_000 }),
    runMs: fc.integer({ min: 1_000, max: 40_000 }),
    priority: fc.integer({ min: 0, max: 9 }),
  })
  const schedule = fc.record({
    gpus: fc.integer({ min: 1, max: 3 }),
    others: fc.array(renter, { minLength: 1, maxLength: 4 }),
    ownRunMs: fc.integer({ min: 1_000, max: 40_000 }),
  })
  fc.assert(
    fc.property(schedule, ({ gpus, others, ownRunMs }) => {
      const own = { weight: 1, everyMs: 5_000, runMs: ownRunMs, priority: 9 }
      const goFirst = Math.ceil((9 * shortAgeMs) / own.everyMs) + 1
      const weights = others.reduce((sum, { weight }) => sum + weight, own.weight)
      const limitMs = 2 * goFirst * ownRunMs * weights + 30 * 60_000
      expect(waitOfFirst({ gpus, renters: [...others, own], limitMs })).toBeLessThanOrEqual(limitMs)
    }),
    { numRuns: 10_000 },
  )
}, 300_000)

type Renter = { weight: number; everyMs: number; runMs: number; priority: number }
const shortAgeMs = 20_000
const tickMs = 2_000

/** How long the first task of the last renter waits, which has priority 0. */
function waitOfFirst({ gpus, renters, limitMs }: { gpus: number; renters: Renter[]; limitMs: number }): number {
  const queue = createTaskQueue({ agePerPriorityMs: shortAgeMs })
  const share = createFairShare({ halfLifeMs: 600_000, quantumMs: 10_000 })
  const running: { endMs: number; sinceMs: number; renterId: string }[] = []
  const nextAtMs = renters.map(() => 0)
  let made = 1
  renters.forEach(({ weight }, index) => share.setWeight(`user_${index}`, weight))
  queue.add(queued({ renter: renters.length - 1, priority: 0, number: 0, atMs: 0 }))

  for (let nowMs = 0; nowMs <= limitMs; nowMs += tickMs) {
    for (const [index, { everyMs, priority }] of renters.entries())
      for (; nextAtMs[index]! <= nowMs && queue.sizeOf(`user_${index}`) < 50; nextAtMs[index]! += everyMs)
        queue.add(queued({ renter: index, priority, number: made++, atMs: nowMs }))
    for (const ended of running.filter(({ endMs }) => endMs <= nowMs)) {
      running.splice(running.indexOf(ended), 1)
      share.free(ended.renterId, { gpus: 1, sinceMs: ended.sinceMs }, nowMs)
    }
    if (running.length === gpus) continue
    const turns = queue.turns({ standingOf: (renterId) => share.standingOf(renterId, nowMs), stepOf: share.stepOf })
    for (let next = turns.next(none); next && running.length < gpus; next = turns.next(none)) {
      const { id, renter_id: renterId } = next.task
      if (id === 'task_0000') return nowMs
      queue.remove(id)
      turns.taken(1)
      share.hold(renterId, { gpus: 1, sinceMs: nowMs })
      running.push({ renterId, sinceMs: nowMs, endMs: nowMs + renters[Number(renterId.slice(5))]!.runMs })
    }
  }
  return Infinity
}

test('what the market asks for itself comes after everybody’s, however little it has had', () => {
  const own = { renter: 0, priority: -1 }
  const queue = newQueue([
    { ...own, number: 1 },
    { ...own, number: 2 },
    { renter: 1, priority: 0, number: 3 },
    { renter: 2, priority: 9, number: 4 },
    { renter: 1, priority: 0, number: 5 },
  ])
  const used: Standings = { standingOf: (renterId) => (renterId === 'user_0' ? 0 : 1_000), stepOf: () => 1_000 }
  expect(serveAll(queue, used).map(({ id }) => Number(id.slice(-1)))).toEqual([3, 4, 5, 1, 2])
})
