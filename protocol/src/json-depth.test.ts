import { expect, test } from 'vitest'
import { isTooDeep } from './json-depth.ts'

const lists = (depth: number): unknown => JSON.parse('['.repeat(depth) + ']'.repeat(depth))

test('what people write is not too deep, whatever it is', () => {
  for (const document of [null, 1, 'text', {}, [], { a: [{ b: null }] }, Array(10_000).fill([1]), lists(100)])
    expect(isTooDeep(document)).toBe(false)
})

test('a document is too deep however it is nested, and however deeply', () => {
  for (const document of [lists(101), lists(1_000_000), { wide: [1, 2, { a: lists(100) }] }])
    expect(isTooDeep(document)).toBe(true)
})
