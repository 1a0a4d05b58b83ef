import fc from 'fast-check'
import { expect, test } from 'vitest'
import { createTaskQueue, type QueuedTask } from './task-queue.ts'

type Given = { renter: number; priority: number; number: number }

/** Only what the queue looks at. */
const queued = ({ renter, priority, number }: Given) =>
  ({
    task: { id: `task_${String(number).padStart(4, '0')}`, renter_id: `user_${renter}`, priority },
  }) as unknown as QueuedTask

const anyTasks = fc
  .array(fc.record({ renter: fc.nat(3), priority: fc.integer({ min: 0, max: 9 }) }), { maxLength: 40 })
  .map((tasks) => tasks.map((task, number) => ({ ...task, number })))
const shuffled = (tasks: Given[]) => fc.shuffledSubarray(tasks, { minLength: tasks.length, maxLength: tasks.length })

test('a renter’s own tasks go by priority, then by age, in whatever order they came', () => {
  fc.assert(
    fc.property(anyTasks.chain(shuffled), (tasks) => {
      const queue = createTaskQueue()
      for (const task of tasks) queue.add(queued(task))
      for (const renter of [0, 1, 2, 3]) {
        const own = tasks.filter((task) => task.renter === renter)
        const expected = own
          .sort((a, b) => b.priority - a.priority || a.number - b.number)
          .map((task) => queued(task).task.id)
        const found = queue.inTurns().filter(({ task }) => task.renter_id === `user_${renter}`)
        expect(found.map(({ task }) => task.id)).toEqual(expected)
      }
    }),
  )
})

test('renters take turns: nobody has a second one before everybody who waits has had a first', () => {
  fc.assert(
    fc.property(anyTasks, (tasks) => {
      const queue = createTaskQueue()
      for (const task of tasks) queue.add(queued(task))
      const turns = queue.inTurns().map(({ task }) => task.renter_id)
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

test('whoever has had a turn goes last in the next', () => {
  const queue = createTaskQueue()
  for (const [number, renter] of [1, 2, 3, 1, 2, 3].entries()) queue.add(queued({ renter, priority: 5, number }))
  const first = () => queue.inTurns().map(({ task }) => task.renter_id)[0]
  const order = []
  for (let turn = 0; turn < 6; turn++) {
    const renter = first()!
    const next = queue.inTurns()[0]!
    order.push(renter)
    queue.remove(next.task.id)
    queue.turnTaken(renter)
  }
  expect(order).toEqual(['user_1', 'user_2', 'user_3', 'user_1', 'user_2', 'user_3'])
})

test('the queue holds what was added and not removed', () => {
  fc.assert(
    fc.property(anyTasks, fc.array(fc.nat(45)), (tasks, removed) => {
      const queue = createTaskQueue()
      for (const task of tasks) queue.add(queued(task))
      const left = new Set(tasks.map((task) => queued(task).task.id))
      for (const number of removed) {
        const { id } = queued({ renter: 0, priority: 0, number }).task
        expect(queue.remove(id)?.task.id).toBe(left.delete(id) ? id : undefined)
        expect(queue.get(id)).toBeUndefined()
      }
      expect(queue.size()).toBe(left.size)
      expect(new Set(queue.inTurns().map(({ task }) => task.id))).toEqual(left)
    }),
  )
})
