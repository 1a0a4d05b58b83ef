import fc from 'fast-check'
import { expect, test } from 'vitest'
import { type TaskType, taskInputs } from '@orbyte/protocol'
import { canaryInput } from './audit-canaries.ts'
import { isRepeatable } from './audit-comparison.ts'

const generations = ['text_generation', 'image_generation', 'embedding'] as const satisfies TaskType[]
const anyChance = fc.array(fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }), {
  minLength: 50,
  maxLength: 50,
})

/** Draws these, one after the other. */
function drawing(values: readonly number[]) {
  let at = 0
  return () => values[at++ % values.length]!
}

test.each(generations)('a canary for %s is a task that a renter could submit, and can be run again', (taskType) => {
  fc.assert(
    fc.property(anyChance, (values) => {
      const input = taskInputs[taskType].parse(canaryInput(taskType, drawing(values)))
      expect(isRepeatable(taskType, input as never)).toBe(true)
    }),
  )
})

test.each(generations)('no two canaries for %s are the same', (taskType) => {
  const made = Array.from({ length: 1_000 }, () => JSON.stringify(canaryInput(taskType, Math.random)))
  expect(new Set(made).size).toBeGreaterThan(900)
})

test('there are none for what has no answer to compare', () => {
  for (const taskType of ['other', 'container', 'model_training'] as const)
    expect(canaryInput(taskType, Math.random)).toBeNull()
})
