import fc from 'fast-check'
import { expect, test } from 'vitest'
import { type Piece, shownCharactersMax, withText } from './text-pieces.ts'

const textOf = (pieces: readonly Piece[]) => pieces.map(({ text }) => text).join('')

test('however a text arrives, its pieces are the text, in order, each under a number of its own', () => {
  fc.assert(
    fc.property(fc.array(fc.string({ maxLength: 9_000 }), { maxLength: 20 }), (parts) => {
      const pieces = parts.reduce<readonly Piece[]>(withText, [])
      expect(textOf(pieces)).toBe(parts.join(''))
      expect(new Set(pieces.map(({ id }) => id)).size).toBe(pieces.length)
    }),
    { numRuns: 50 },
  )
})

test('what comes changes the last piece alone, so that no other is drawn again', () => {
  const before = withText([], 'x'.repeat(10_000))
  const after = withText(before, 'y')
  expect(after.slice(0, -1).every((piece, at) => piece === before[at])).toBe(true)
  expect(after.at(-1)!.id).toBe(before.at(-1)!.id)
})

test('of a text without an end the newest part is kept, and no more than that', () => {
  let pieces: readonly Piece[] = []
  let written = ''
  for (let part = 0; part < 300; part++) {
    const text = `${part} `.repeat(500)
    written += text
    pieces = withText(pieces, text)
    expect(textOf(pieces).length).toBeLessThanOrEqual(shownCharactersMax)
  }
  expect(textOf(pieces).length).toBeGreaterThan(shownCharactersMax * 0.95)
  expect(written.endsWith(textOf(pieces))).toBe(true)
})
