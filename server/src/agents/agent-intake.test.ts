import { expect, test } from 'vitest'
import { manualClock } from '../manual-clock.ts'
import { Throttle, Valve } from './agent-intake.ts'

function socket() {
  const calls: string[] = []
  return { calls, pause: () => void calls.push('pause'), resume: () => void calls.push('resume') }
}

test('a socket is read from once no reason against it is left', () => {
  const read = socket()
  const valve = new Valve(read)
  valve.shut('disk')
  valve.shut('throttle')
  valve.shut('disk')
  valve.open('disk')
  expect(read.calls).toEqual(['pause'])
  valve.open('throttle')
  valve.open('throttle')
  expect(read.calls).toEqual(['pause', 'resume'])
})

test('ten seconds’ worth of messages come at once, then as many as there is time for', () => {
  const clock = manualClock(0)
  const read = socket()
  const throttle = new Throttle(clock, new Valve(read), 100)
  for (let messages = 0; messages < 1_000; messages++) throttle.count()
  expect(read.calls).toEqual([])
  for (let messages = 0; messages < 5; messages++) throttle.count()
  expect(read.calls).toEqual(['pause'])
  clock.advance(49)
  expect(read.calls).toEqual(['pause'])
  clock.advance(1)
  expect(read.calls).toEqual(['pause', 'resume'])
  throttle.count()
  expect(read.calls).toEqual(['pause', 'resume', 'pause'])
})

test('a throttle of nothing lets everything through', () => {
  const read = socket()
  const throttle = new Throttle(manualClock(0), new Valve(read), 0)
  for (let messages = 0; messages < 100_000; messages++) throttle.count()
  expect(read.calls).toEqual([])
})
