import { expect, test } from 'vitest'
import { isWithinHours, parseHours } from './hours.ts'

const at = (text: string) => new Date(`2026-03-04T${text}:00`).getTime()

test.each([
  ['22:00-07:00', '23:30', true],
  ['22:00-07:00', '06:59', true],
  ['22:00-07:00', '07:00', false],
  ['22:00-07:00', '12:00', false],
  ['09:00-17:30', '17:29', true],
  ['09:00-17:30', '17:30', false],
  ['09:00-17:30', '08:59', false],
  ['18:00-24:00', '23:59', true],
  ['18:00-24:00', '00:00', false],
  ['00:00-24:00', '13:00', true],
  ['06:00-08:00, 20:00-22:00', '21:00', true],
  ['06:00-08:00, 20:00-22:00', '12:00', false],
])('%s at %s: %s', (hours, time, expected) => {
  expect(isWithinHours(parseHours(hours), at(time))).toBe(expected)
})

test('without hours every moment is within them', () => {
  expect(isWithinHours(null, at('03:00'))).toBe(true)
})

test.each(['', '22-07', '25:00-07:00', '22:60-07:00', '08:00-08:00', '22:00', 'night'])('%j names no hours', (text) => {
  expect(() => parseHours(text)).toThrow('names no hours of the day')
})
