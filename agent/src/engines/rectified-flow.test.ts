import { expect, test } from 'vitest'
import { normalNumbers, pixelsOf, sampleFlow } from './rectified-flow.ts'

const signal = new AbortController().signal

test('a straight flow reaches its end in any number of steps', async () => {
  const target = Float32Array.of(0.5, -0.25, 1, 0)
  for (const steps of [1, 7, 20]) {
    const noise = Float32Array.from({ length: 4 }, normalNumbers(3))
    const straight = Float32Array.from(target, (value, index) => value - noise[index]!)
    const velocity = async () => Float32Array.of(...straight, ...straight)
    const condition = Float32Array.of(1)
    const image = await sampleFlow(velocity, 4, { condition, steps, guidance: 2.5, seed: 3, signal })
    image.forEach((value, index) => expect(value).toBeCloseTo(target[index]!, 5))
  }
})

test('guidance goes beyond what the condition says, away from no condition', async () => {
  const noise = normalNumbers(1)()
  const velocity = async () => Float32Array.of(2, 1)
  const options = { condition: Float32Array.of(1), steps: 4, guidance: 3, seed: 1, signal }
  const image = await sampleFlow(velocity, 1, options)
  expect(image[0]).toBeCloseTo(noise + 1 + 3 * (2 - 1), 5)
})

test('random numbers are normal, and the same for a seed', () => {
  const draw = (seed: number) => Array.from({ length: 20_000 }, normalNumbers(seed))
  const numbers = draw(7)
  const mean = numbers.reduce((sum, value) => sum + value, 0) / numbers.length
  const variance = numbers.reduce((sum, value) => sum + (value - mean) ** 2, 0) / numbers.length
  expect(mean).toBeCloseTo(0, 1)
  expect(variance).toBeCloseTo(1, 1)
  expect(draw(7)).toEqual(numbers)
  expect(draw(8)).not.toEqual(numbers)
})

test('planes of colours become rows of pixels, within 0 to 255', () => {
  const planes = Float32Array.of(10, 300, 20, -5, 30, 40)
  expect([...pixelsOf(planes, (value) => value)]).toEqual([10, 20, 30, 255, 0, 40])
})
