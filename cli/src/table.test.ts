import fc from 'fast-check'
import { expect, test } from 'vitest'
import { details, table } from './table.ts'
import { oneLine, printable } from '@orbyte/protocol'
import { textWidth, truncate } from './text-width.ts'

type Row = { id: string; name: string; price: number | null }
const columns = [
  { title: 'id', value: ({ id }: Row) => id },
  { title: 'name', value: ({ name }: Row) => name, shrinks: true },
  { title: 'price', value: ({ price }: Row) => price, right: true },
]
const plain = { width: null, bold: (text: string) => text }

test('columns are aligned, numbers to the right, and an empty value is a dash', () => {
  const rows = [
    { id: 'a', name: 'a long name', price: 12 },
    { id: 'bcd', name: '', price: null },
  ]
  expect(table(rows, columns, plain)).toBe(
    ['ID   NAME         PRICE', 'a    a long name     12', 'bcd  -                -'].join('\n'),
  )
})

test('a narrow terminal takes from the columns that may shrink, and ids stay whole', () => {
  const rows = [{ id: 'gpu_01k00000000000', name: 'a name that is much too long for it', price: 1 }]
  const text = table(rows, columns, { ...plain, width: 48 })
  expect(text.split('\n').map(textWidth)).toEqual([48, 48])
  expect(text).toContain('gpu_01k00000000000')
  expect(text).toContain('…')
})

test('wide characters take two columns', () => {
  expect(textWidth('東京 ok')).toBe(7)
  expect(textWidth('🦊')).toBe(2)
  expect(truncate('東京タワー', 7)).toBe('東京タ…')
  const rows = [
    { id: '東', name: 'x', price: 1 },
    { id: 'abc', name: 'y', price: 2 },
  ]
  expect(table(rows, columns, plain).split('\n')[1]).toBe('東   x         1')
})

test('whatever others wrote, a table has one line a row and no control characters', () => {
  fc.assert(
    fc.property(
      fc.array(fc.record({ id: fc.string(), name: fc.string({ unit: 'binary' }), price: fc.nat() }), { maxLength: 5 }),
      (rows) => {
        const lines = table(rows, columns, plain).split('\n')
        expect(lines).toHaveLength(rows.length + 1)
        expect(lines.join('')).not.toMatch(/\p{Cc}/u)
      },
    ),
  )
})

test('text of others cannot drive the terminal', () => {
  expect(oneLine('red\u001b[31m\r\ngone\u202Eback')).toBe('red [31m gone back')
  expect(printable('a\u001b]0;title\u0007\tb\r\nc\u009b1m')).toBe('a]0;title\tb\nc1m')
})

test('details leave out what is not there', () => {
  expect(
    details([
      ['Name', 'rig'],
      ['Region', null],
      ['Price', 2],
    ]),
  ).toBe('Name   rig\nPrice  2')
})
