import { expect, test } from 'vitest'
import { createTaskMix } from './task-mix.ts'

const shareOf = (mix: ReturnType<typeof createTaskMix<string>>, asked: string) => {
  const all = mix.all()
  const sum = all.reduce((weights, { weight }) => weights + weight, 0)
  return (all.find((kind) => kind.asked === asked)?.weight ?? 0) / sum
}

test('the mix is what arrives, each kind by its share', () => {
  const mix = createTaskMix<string>({ tasksRemembered: 1e9, kindsMax: 10 })
  for (let round = 0; round < 100; round++)
    for (const asked of ['whole', 'whole', 'whole', 'half']) mix.add(asked, asked)
  expect(shareOf(mix, 'whole')).toBeCloseTo(0.75)
  expect(shareOf(mix, 'half')).toBeCloseTo(0.25)
})

test('what arrived long ago counts for less, by half for each time that many tasks are remembered', () => {
  const mix = createTaskMix<string>({ tasksRemembered: 100, kindsMax: 10 })
  for (let count = 0; count < 10_000; count++) mix.add('half', 'half')
  for (let count = 0; count < 100; count++) mix.add('whole', 'whole')
  expect(shareOf(mix, 'half')).toBeCloseTo(0.5, 2)
})

test('however many kinds arrive, it keeps a bounded number, the frequent ones', () => {
  const mix = createTaskMix<string>({ tasksRemembered: 1_000, kindsMax: 50 })
  for (let count = 0; count < 5_000; count++) {
    const asked = count % 2 === 0 ? 'whole' : `part ${count}`
    mix.add(asked, asked)
  }
  expect(mix.all().length).toBeLessThanOrEqual(50)
  expect(shareOf(mix, 'whole')).toBeGreaterThan(0.45)
})

test('it goes on for ever: weights stay numbers', () => {
  const mix = createTaskMix<string>({ tasksRemembered: 1, kindsMax: 10 })
  for (let count = 0; count < 2_000; count++) mix.add(count % 3 === 0 ? 'half' : 'whole', '')
  expect(mix.all().every(({ weight }) => Number.isFinite(weight))).toBe(true)
})
