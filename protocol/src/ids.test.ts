import fc from 'fast-check'
import { expect, test } from 'vitest'
import { encodeBase32 } from './base32.ts'
import { type IdKind, idOf, idPrefixes, makeId } from './ids.ts'

const kinds = Object.keys(idPrefixes) as IdKind[]
const anyKind = fc.constantFrom(...kinds)
const anyTimeMs = fc.integer({ min: 0, max: 2 ** 48 - 1 })
const anyRandom = fc.uint8Array({ minLength: 10, maxLength: 10 })

test('an id is of its kind and of no other', () => {
  fc.assert(
    fc.property(anyKind, anyTimeMs, anyRandom, (kind, timeMs, random) => {
      const id = makeId(kind, timeMs, random)
      expect(kinds.filter((other) => idOf(other).safeParse(id).success)).toEqual([kind])
    }),
  )
})

test('ids of a kind sort by the time of their making', () => {
  const anyMaking = fc.record({ timeMs: anyTimeMs, random: anyRandom })
  fc.assert(
    fc.property(anyMaking, anyMaking, (a, b) => {
      const [first, second] = [makeId('task', a.timeMs, a.random), makeId('task', b.timeMs, b.random)]
      if (a.timeMs < b.timeMs) expect(first < second).toBe(true)
      if (a.timeMs > b.timeMs) expect(first > second).toBe(true)
    }),
  )
})

test('different random bytes make different ids', () => {
  fc.assert(
    fc.property(anyTimeMs, anyRandom, anyRandom, (timeMs, a, b) => {
      const isSame = a.every((byte, index) => byte === b[index])
      expect(makeId('gpu', timeMs, a) === makeId('gpu', timeMs, b)).toBe(isSame)
    }),
  )
})

test('base32 keeps the bytes’ order and length', () => {
  fc.assert(
    fc.property(anyRandom, anyRandom, (a, b) => {
      const order = Math.sign(Buffer.compare(a, b))
      const [left, right] = [encodeBase32(a), encodeBase32(b)]
      expect([left.length, Math.sign(left < right ? -1 : left > right ? 1 : 0)]).toEqual([16, order])
    }),
  )
})

test.for([
  '',
  'task_',
  'task_01',
  `task_${'u'.repeat(26)}`,
  `TASK_${'0'.repeat(26)}`,
  `task_${'0'.repeat(26)}\n`,
  `gpu_${'0'.repeat(26)}`,
])('%j is no id of a task', (text) => {
  expect(idOf('task').safeParse(text).success).toBe(false)
})
