import { expect, test } from 'vitest'
import { typeInto } from './prompt.ts'

test('keys make a line: letters, Backspace, Ctrl-U and Enter', () => {
  expect(typeInto('', 'secretx\u007f\r')).toEqual({ line: 'secret', end: 'entered' })
  expect(typeInto('abc', '\u0015new')).toEqual({ line: 'new', end: null })
  expect(typeInto('a🦊', '\u007f')).toEqual({ line: 'a', end: null })
})

test('Ctrl-C interrupts, Ctrl-D ends a line that has something in it', () => {
  expect(typeInto('abc', '\u0003')).toMatchObject({ end: 'interrupted' })
  expect(typeInto('', '\u0004')).toMatchObject({ end: 'interrupted' })
  expect(typeInto('abc', '\u0004')).toEqual({ line: 'abc', end: 'entered' })
})

test('arrow keys and other control characters leave nothing in a password', () => {
  expect(typeInto('a', '\u001b[A\u001b[3~\u001bOP\tb\u0000')).toEqual({ line: 'ab', end: null })
})
