import fc from 'fast-check'
import { expect, test } from 'vitest'
import { costFrom, Lanes, memberAt, placeOf, stepAt } from './gpu-lane.ts'

const anyChange = fc.record({
  lane: fc.nat(3),
  step: fc.nat(4),
  member: fc.oneof(fc.nat(40), fc.constant(2 ** 32 - 1)),
  price: fc.integer({ min: 1, max: 9 }),
  what: fc.constantFrom('add', 'add', 'add', 'remove', 'drop', 'renew'),
})

test('lanes that share one array keep their members apart and in order, whatever is added, removed and dropped', () => {
  fc.assert(
    fc.property(fc.array(anyChange, { maxLength: 120 }), (changes) => {
      const lanes = new Lanes()
      const numbers = [0, 1, 2, 3].map((level) => lanes.create(level))
      const expected: Map<number, number>[] = numbers.map(() => new Map())
      for (const { lane, step, member, price, what } of changes) {
        const members = expected[lane]!
        const place = placeOf(step, member)
        if (what === 'add') {
          lanes.add(numbers[lane]!, place, price)
          members.set(place, Math.min(price, members.get(place) ?? Infinity))
        }
        if (what === 'remove') {
          lanes.remove(numbers[lane]!, place)
          members.delete(place)
        }
        if (what === 'drop' && members.size > 1) {
          lanes.drop(numbers[lane]!, 1, 1)
          members.delete([...members.keys()].sort((a, b) => a - b)[1]!)
        }
        if (what === 'renew') {
          lanes.release(numbers[lane]!)
          numbers[lane] = lanes.create(lane)
          members.clear()
        }
        for (const [at, number] of numbers.entries()) {
          const places = [...expected[at]!.keys()].sort((a, b) => a - b)
          const start = lanes.starts[number]!
          expect([...lanes.places.slice(start, start + lanes.sizes[number]!)]).toEqual(places)
          expect(lanes.costFrom[number]).toBe(places.length === 0 ? Infinity : costFrom(stepAt(places[0]!)))
          expect(lanes.priceFrom[number]).toBeLessThanOrEqual(Math.min(...expected[at]!.values()))
          expect(lanes.countUpTo(number, 2)).toBe(places.filter((each) => stepAt(each) <= 2).length)
          expect(lanes.levels[number]).toBe(at)
        }
        expect([stepAt(place), memberAt(place)]).toEqual([step, member])
      }
    }),
    { numRuns: 300 },
  )
})

test('lanes for which there was no room yet are as empty as the first', () => {
  const lanes = new Lanes()
  const numbers = Array.from({ length: 1_000 }, () => lanes.create(1_000))
  expect(new Set(numbers).size).toBe(1_000)
  for (const lane of numbers)
    expect([lanes.sizes[lane], lanes.costFrom[lane], lanes.priceFrom[lane]]).toEqual([0, Infinity, Infinity])
})
