import { expect, test } from 'vitest'
import { defaultTiming, loadConfig } from './config.ts'

const timingOf = (scale: string) => loadConfig({ DATABASE_URL: ':memory:', TIME_SCALE: scale }).timing

test('a trial has all its times multiplied by one factor, and stays in proportion', () => {
  const timing = timingOf('0.1')
  expect(timing).toMatchObject({ heartbeatMs: 500, suspectMs: 1_500, deadMs: 9_000, deadlineMarginMs: 1_000 })
  for (const [name, ms] of Object.entries(defaultTiming)) expect(timing[name as keyof typeof timing]).toBe(ms / 10)
})

test('without a word times are the usual ones, and nonsense is refused', () => {
  expect(loadConfig({ DATABASE_URL: ':memory:' }).timing).toEqual(defaultTiming)
  for (const text of ['', 'fast', '0', '-1', '11']) expect(() => timingOf(text), text).toThrow('TIME_SCALE')
})
