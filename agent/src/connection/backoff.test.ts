import { expect, test } from 'vitest'
import { reconnectDelayMs } from './backoff.ts'

const drawing = (byte: number) => ({ bytes: (count: number) => new Uint8Array(count).fill(byte) })

test('the wait doubles from half a second to half a minute', () => {
  const longest = [0, 1, 2, 3, 4, 5, 6, 7, 1_000].map((tries) => reconnectDelayMs(tries, drawing(255)))
  expect(longest).toEqual([500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000, 30_000])
})

test('in a trial with scaled times it is shorter', () => {
  expect(reconnectDelayMs(9, drawing(255), { firstMs: 50, longestMs: 3_000 })).toBe(3_000)
})

test('agents that lost the same server do not come back together, and none hammers', () => {
  expect(reconnectDelayMs(6, drawing(0))).toBe(3_000)
  expect(reconnectDelayMs(6, drawing(128))).toBe(16_553)
})
