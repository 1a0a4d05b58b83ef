import fc from 'fast-check'
import { expect, test } from 'vitest'
import { systemClock } from '../system-clock.ts'
import { createEmbeddingExecutor } from './embedding-executor.ts'
import { executorSuite, runAttempt, type SuiteSubject } from './executor-suite.ts'
import { wordvec } from './fixture-models.ts'

const subject: SuiteSubject = {
  name: 'embedding',
  executor: createEmbeddingExecutor({ clock: systemClock }),
  taskType: 'embedding',
  input: { input: ['hire a gpu to train a deep learning model', 'banana bread recipe'] },
  longInput: { input: Array.from({ length: 200 }, () => 'the cat and the dog '.repeat(1_000)) },
  model: wordvec,
  isDeterministic: true,
}
executorSuite(subject)

test('texts with a like meaning are nearer than others', async () => {
  const [ask, ...others] = await embed(
    'hire a gpu to train a deep learning model',
    'cheap hardware for training neural networks',
    'rent a graphics card by the hour',
    'banana bread recipe',
    'the weather is nice today',
  )
  const [training, renting, bread, weather] = others.map((other) => cosine(ask!, other))
  expect(training).toBeGreaterThan(0.4)
  expect(Math.min(training!, renting!)).toBeGreaterThan(Math.max(bread!, weather!))
  const [cake, baking] = await embed('how to bake a cake', 'banana bread recipe')
  expect(cosine(cake!, baking!)).toBeGreaterThan(0.6)
})

test('every text has a vector of length 1, known words or none, the same each time', async () => {
  await fc.assert(
    fc.asyncProperty(fc.string({ minLength: 1, maxLength: 60, unit: 'grapheme' }), async (text) => {
      const [vector, again] = await embed(text, text)
      expect(vector).toHaveLength(100)
      expect(Math.hypot(...vector!)).toBeCloseTo(1, 4)
      expect(again).toEqual(vector)
    }),
    { numRuns: 50 },
  )
})

test('words that are not in the table are told apart', async () => {
  const [first, second] = await embed('zxqv', 'frobnicate')
  expect(Math.abs(cosine(first!, second!))).toBeLessThan(0.5)
})

test('a text’s vector does not depend on the texts beside it', async () => {
  const [alone] = await embed('a small red boat')
  const [, beside] = await embed('something else', 'a small red boat')
  expect(beside).toEqual(alone)
})

test('vectors and words that do not belong together are refused', async () => {
  const broken = { ...subject, model: { ...wordvec, files: { ...wordvec.files, words: wordvec.files['vectors']! } } }
  await expect(runAttempt(broken, { input: ['hello'] })).rejects.toMatchObject({ code: 'model_unavailable' })
})

async function embed(...texts: string[]): Promise<number[][]> {
  const { output } = await runAttempt(subject, { input: texts })
  return output['embeddings'] as number[][]
}

function cosine(first: number[], second: number[]): number {
  return first.reduce((sum, value, index) => sum + value * second[index]!, 0)
}
