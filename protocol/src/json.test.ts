import { runInNewContext } from 'node:vm'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { isJson, isTooDeep } from './json.ts'

const lists = (depth: number): unknown => JSON.parse('['.repeat(depth) + ']'.repeat(depth))

test('what people write is not too deep, whatever it is', () => {
  for (const document of [null, 1, 'text', {}, [], { a: [{ b: null }] }, Array(10_000).fill([1]), lists(100)])
    expect(isTooDeep(document)).toBe(false)
})

test('a document is too deep however it is nested, and however deeply', () => {
  for (const document of [lists(101), lists(1_000_000), { wide: [1, 2, { a: lists(100) }] }])
    expect(isTooDeep(document)).toBe(true)
})

test('what JSON.parse gives is JSON, and what JSON.stringify would change is not', () => {
  const anyText = fc.json().filter((text) => !text.includes('"__proto__":'))
  fc.assert(fc.property(anyText, (text) => isJson(JSON.parse(text))))
  for (const value of [
    undefined,
    NaN,
    Infinity,
    1n,
    Symbol('a'),
    () => 1,
    new Date(0),
    new Map(),
    new Uint8Array(1),
    Array(1),
  ])
    for (const within of [value, [value], { a: value }, { a: [{ b: value }] }]) expect(isJson(within)).toBe(false)
  expect(isJson(JSON.parse('{"a":{"__proto__":{}}}'))).toBe(false)
  expect(isJson(runInNewContext('({ a: [] })'))).toBe(true)
  expect(isJson(Object.assign(Object.create(null), { a: [null, true, 'a', -1.5] }))).toBe(true)
})
