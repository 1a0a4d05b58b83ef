import fc from 'fast-check'
import { expect, test } from 'vitest'
import { Lists } from './flat-lists.ts'

test('each list is as it was set last, whatever the others have become, and what one leaves is used again', () => {
  const anySet = fc.record({ number: fc.nat(100), list: fc.array(fc.nat(), { maxLength: 5 }) })
  fc.assert(
    fc.property(fc.array(anySet, { maxLength: 200 }), (sets) => {
      const lists = new Lists()
      const expected = new Map<number, number[]>()
      for (const { number, list } of sets) {
        lists.set(number, list)
        expected.set(number, list)
        for (const [each, values] of expected) {
          const start = lists.starts[each]!
          expect([...lists.values.slice(start, start + lists.lengths[each]!)]).toEqual(values)
        }
      }
    }),
    { numRuns: 100 },
  )
  const lists = new Lists()
  for (let count = 0; count < 10_000; count++) lists.set(0, [count, count, count])
  expect(lists.values.length).toBe(1_024)
})
