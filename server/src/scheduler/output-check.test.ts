import { expect, test } from 'vitest'
import { outputProblem } from './output-check.ts'

const image = (file: string) => ({ file, width: 128, height: 128, seed: 1 })
const images = (count: number, outputs: string[], files: string[]) =>
  outputProblem({
    taskType: 'image_generation',
    input: { prompt: 'a cat', count },
    output: { images: outputs.map(image), model: 'tinyimg', ignored_words: [] },
    files,
  })
const vectors = (texts: string[], embeddings: number[][], dimensions: number) =>
  outputProblem({
    taskType: 'embedding',
    input: { input: texts },
    output: { embeddings, dimensions, model: 'wordvec-100', tokens: 1 },
    files: [],
  })

test('a result of another form is refused', () => {
  expect(outputProblem({ taskType: 'text_generation', input: null, output: { done: true }, files: [] })).toMatch(/form/)
  expect(outputProblem({ taskType: 'other', input: null, output: { done: true }, files: [] })).toBeNull()
})

test('images are as many as were asked for, and their files are here', () => {
  expect(images(2, ['a.png', 'b.png'], ['a.png', 'b.png'])).toBeNull()
  expect(images(2, ['a.png'], ['a.png'])).toBe('The result has 1 images, and 2 were asked for.')
  expect(images(2, ['a.png', 'a.png'], ['a.png'])).toBe('The result has 1 images, and 2 were asked for.')
  expect(images(1, ['a.png'], [])).toBe('The result names the image a.png, which never arrived.')
})

test('every text has a vector, and all vectors are as long as the result says', () => {
  const pair: [number[], number[]] = [
    [1, 0],
    [0, 1],
  ]
  expect(vectors(['a', 'b'], pair, 2)).toBeNull()
  expect(vectors(['a', 'b', 'c'], pair, 2)).toBe('The result has 2 vectors for 3 texts.')
  expect(vectors(['a', 'b'], pair, 3)).toMatch(/other lengths than the 3/)
})
