import { expect, test } from 'vitest'
import { seededRandom } from './seeded-random.ts'

test('the same seed and name give the same numbers, others give others', () => {
  const draw = (seed: number, name?: string) => [...seededRandom(seed, name).bytes(16)]
  expect(draw(1)).toEqual(draw(1))
  expect(draw(1)).not.toEqual(draw(2))
  expect(draw(1, 'a')).not.toEqual(draw(1, 'b'))
  expect([...seededRandom(1).fork('a').bytes(16)]).toEqual([...seededRandom(1).fork('a').bytes(16)])
})

test('what one part draws does not shift what another one gets', () => {
  const random = seededRandom(5)
  const before = random.fork('part').unit()
  random.bytes(100)
  expect(random.fork('part').unit()).toBe(before)
})

test('numbers are spread evenly, both ends included', () => {
  const random = seededRandom(3)
  const counts = [0, 0, 0, 0]
  for (let draw = 0; draw < 40_000; draw++) counts[random.integer(0, 3)]!++
  for (const count of counts) expect(Math.abs(count - 10_000)).toBeLessThan(400)
})

test('waiting times have the mean that was asked for', () => {
  const random = seededRandom(4)
  let sum = 0
  for (let draw = 0; draw < 20_000; draw++) sum += random.waitMs(1_000)
  expect(Math.abs(sum / 20_000 - 1_000)).toBeLessThan(30)
})
