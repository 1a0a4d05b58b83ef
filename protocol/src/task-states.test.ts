import fc from 'fast-check'
import { expect, test } from 'vitest'
import {
  attemptHoldsGpu,
  attemptStatuses,
  canAttemptMove,
  canTaskMove,
  isTaskFinal,
  taskStatuses,
} from './task-states.ts'
import type { AttemptStatus, TaskStatus } from './task-status.ts'

const isAttemptFinal = (status: AttemptStatus) => !attemptStatuses.some((to) => canAttemptMove(status, to))

test('from a final status there is no way on', () => {
  for (const to of taskStatuses)
    for (const from of taskStatuses.filter(isTaskFinal)) expect(canTaskMove(from, to)).toBe(false)
})

test('exactly these statuses are final', () => {
  expect(taskStatuses.filter(isTaskFinal)).toEqual(['completed', 'failed', 'cancelled'])
  expect(attemptStatuses.filter(isAttemptFinal)).toEqual(['completed', 'failed', 'cancelled', 'refused', 'lost'])
})

test('a GPU is held by what was accepted and has not ended, and by nothing else', () => {
  expect(attemptStatuses.filter(attemptHoldsGpu)).toEqual(['accepted', 'preparing', 'running'])
})

/** Walks along the moves that are allowed, as `choices` say, until there is none. */
function walk<S extends string>(
  from: S,
  { all, can, choices }: { all: readonly S[]; can: (from: S, to: S) => boolean; choices: number[] },
): S[] {
  const path = [from]
  for (const choice of choices) {
    const next = all.filter((to) => can(path.at(-1)!, to))
    if (next.length === 0) break
    path.push(next[choice % next.length]!)
  }
  return path
}
const anyChoices = fc.array(fc.nat(100), { minLength: 1, maxLength: 30 })

test('an attempt never goes back, and can end from everywhere', () => {
  fc.assert(
    fc.property(anyChoices, (choices) => {
      const path = walk<AttemptStatus>('offered', { all: attemptStatuses, can: canAttemptMove, choices })
      expect(new Set(path).size).toBe(path.length)
      for (const status of path.filter((one) => !isAttemptFinal(one)))
        for (const end of ['cancelled', 'lost'] as const) expect(canAttemptMove(status, end)).toBe(true)
    }),
  )
})

test('only an offer is refused, and nothing runs that was not accepted', () => {
  for (const from of attemptStatuses) expect(canAttemptMove(from, 'refused')).toBe(from === 'offered')
  expect(canAttemptMove('offered', 'running')).toBe(false)
  expect(canAttemptMove('offered', 'preparing')).toBe(false)
})

test('a task only waits or runs until it ends, and completes only from running', () => {
  fc.assert(
    fc.property(anyChoices, (choices) => {
      const path = walk<TaskStatus>('pending', { all: taskStatuses, can: canTaskMove, choices })
      const open = path.filter((status) => !isTaskFinal(status))
      for (const [index, status] of open.entries()) expect(status).toBe(index % 2 === 0 ? 'pending' : 'running')
      if (path.at(-1) === 'completed') expect(path.at(-2)).toBe('running')
    }),
  )
})
