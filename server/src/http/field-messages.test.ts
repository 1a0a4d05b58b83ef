import { expect, test } from 'vitest'
import { z } from 'zod'
import { fieldMessage } from './field-messages.ts'

test.each([
  [z.string(), undefined, 'is missing'],
  [z.record(z.string(), z.unknown()), 'text', 'must be an object'],
  [z.int(), 0.5, 'must be a whole number'],
  [z.boolean(), 'yes', 'must be true or false'],
  [z.enum(['release', 'refund']), 'keep', 'must be one of release, refund'],
  [z.literal('mock'), 'real', 'must be mock'],
  [z.string().min(10), 'short', 'must have at least 10 characters'],
  [z.string().min(1), '', 'must not be empty'],
  [z.array(z.string()).max(1), ['a', 'b'], 'must have at most 1 item'],
  [z.number().max(2), 9, 'must be at most 2'],
  [z.number().positive(), 0, 'must be more than 0'],
  [z.number().min(1), 0, 'must be at least 1'],
  [z.email(), 'bob', 'is not an email address'],
  [z.string().min(3, { error: 'say why, in a few words' }), '', 'say why, in a few words'],
])('%# what a field must be is said to a person', (schema, value, message) => {
  expect(schema.safeParse(value).error!.issues.map(fieldMessage)).toEqual([message])
})
