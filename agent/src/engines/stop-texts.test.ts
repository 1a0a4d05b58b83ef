import fc from 'fast-check'
import { expect, test } from 'vitest'
import { createStopFilter } from './stop-texts.ts'

// Few letters, so that stop texts really occur, overlap and begin without ending.
const text = fc.string({ unit: fc.constantFrom('a', 'b', '\n'), maxLength: 40 })
const stops = fc.array(fc.string({ unit: fc.constantFrom('a', 'b', '\n'), minLength: 1, maxLength: 5 }), {
  maxLength: 4,
})
const cuts = fc.array(fc.nat(40), { maxLength: 12 })

test('the text ends before the stop text that is complete first, however it is cut', () => {
  fc.assert(
    fc.property(text, stops, cuts, (whole, stopTexts, cutsAt) => {
      const { shown } = stream(piecesOf(whole, cutsAt), stopTexts)
      expect(shown.join('')).toBe(expectedText(whole, stopTexts))
    }),
  )
})

test('what was shown is never taken back: no part of a stop text is shown before it is known not to be one', () => {
  fc.assert(
    fc.property(text, stops, cuts, (whole, stopTexts, cutsAt) => {
      const expected = expectedText(whole, stopTexts)
      let soFar = ''
      for (const piece of stream(piecesOf(whole, cutsAt), stopTexts).shown) {
        soFar += piece
        expect(expected.startsWith(soFar)).toBe(true)
      }
    }),
  )
})

test('text that cannot begin a stop text is shown at once', () => {
  const filter = createStopFilter(['\nQ:'])
  expect(filter.add('Paris.')).toBe('Paris.')
  expect(filter.add('\n')).toBe('')
  expect(filter.add('Quick')).toBe('\nQuick')
  expect(filter.add(' answer\nQ: next')).toBe(' answer')
  expect(filter.hasStopped()).toBe(true)
})

function stream(pieces: string[], stopTexts: string[]) {
  const filter = createStopFilter(stopTexts)
  return { shown: [...pieces.map((piece) => filter.add(piece)), filter.end()] }
}

function piecesOf(whole: string, cutsAt: number[]): string[] {
  const edges = [0, ...cutsAt.map((at) => Math.min(at, whole.length)), whole.length].sort((a, b) => a - b)
  return edges.slice(1).map((edge, index) => whole.slice(edges[index], edge))
}

/** Reads letter by letter: the plainest way to say it. */
function expectedText(whole: string, stopTexts: string[]): string {
  for (let end = 1; end <= whole.length; end++) {
    const ended = stopTexts.filter((stop) => whole.slice(0, end).endsWith(stop))
    if (ended.length > 0) return whole.slice(0, end - Math.max(...ended.map((stop) => stop.length)))
  }
  return whole
}
