import { expect, test } from 'vitest'
import { createTaskMix } from './task-mix.ts'

const asking = (milliEach: number) => ({ shape: { gpus: 1, milliEach, cpuMilli: 0, ramMib: 0 }, runsOn: null })
const shareOf = (mix: ReturnType<typeof createTaskMix>, milliEach: number) => {
  const shapes = mix.shapes()
  const all = shapes.reduce((sum, { weight }) => sum + weight, 0)
  return (shapes.find(({ shape }) => shape.milliEach === milliEach)?.weight ?? 0) / all
}

test('the mix is what arrives, each shape by its share', () => {
  const mix = createTaskMix({ tasksRemembered: 1e9 })
  for (let round = 0; round < 100; round++) for (const milli of [1_000, 1_000, 1_000, 500]) mix.add(asking(milli))
  expect(shareOf(mix, 1_000)).toBeCloseTo(0.75)
  expect(shareOf(mix, 500)).toBeCloseTo(0.25)
})

test('what arrived long ago counts for less, by half for each time that many tasks are remembered', () => {
  const mix = createTaskMix({ tasksRemembered: 100 })
  for (let count = 0; count < 10_000; count++) mix.add(asking(500))
  for (let count = 0; count < 100; count++) mix.add(asking(1_000))
  expect(shareOf(mix, 500)).toBeCloseTo(0.5, 2)
})

test('however many shapes arrive, it keeps a bounded number, the frequent ones', () => {
  const mix = createTaskMix({ tasksRemembered: 1_000, shapesMax: 50 })
  for (let count = 0; count < 5_000; count++) mix.add(asking(count % 2 === 0 ? 1_000 : 1 + (count % 999)))
  expect(mix.shapes().length).toBeLessThanOrEqual(50)
  expect(shareOf(mix, 1_000)).toBeGreaterThan(0.45)
})

test('it goes on for ever: weights stay numbers', () => {
  const mix = createTaskMix({ tasksRemembered: 1 })
  for (let count = 0; count < 2_000; count++) mix.add(asking(count % 3 === 0 ? 500 : 1_000))
  expect(mix.shapes().every(({ weight }) => Number.isFinite(weight))).toBe(true)
})
