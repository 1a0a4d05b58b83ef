import { expect, test } from 'vitest'
import { taskInputs, type TaskType } from '@orbyte/protocol'
import { workOf } from './speed-work.ts'

const work = (taskType: TaskType, input: object, output: object) =>
  workOf({ taskType, input: taskInputs[taskType].parse(input) as never, output: output as never })
const wrote = (text: string, completion_tokens: number, prompt_tokens = 0) => {
  return { text, model: 'tinylm', finish_reason: 'stop', prompt_tokens, completion_tokens }
}

test('text counts its tokens, and a tenth for what was read', () => {
  expect(work('text_generation', { prompt: 'Once upon a time' }, wrote('there was a king', 4, 4))).toBe(4.4)
})

test('tokens that the text cannot hold, or that nobody asked for, do not count', () => {
  expect(work('text_generation', { prompt: 'Hi' }, wrote('four', 1_000_000, 1_000_000))).toBe(4.2)
  expect(work('text_generation', { prompt: 'Hi', max_tokens: 3 }, wrote('four', 4))).toBe(3)
  const messages = [{ role: 'user', content: 'Hi' }]
  expect(work('text_generation', { messages }, wrote('ü', 9, 9))).toBe(2.2)
  expect(work('text_generation', { prompt: 'Hi' }, wrote('', 9))).toBeNull()
})

test('images count the steps and embeddings the characters that the renter asked for', () => {
  expect(work('image_generation', { prompt: 'a cat', count: 3, steps: 10 }, { images: [] })).toBe(30)
  expect(work('embedding', { input: ['one', 'three'] }, { embeddings: [] })).toBe(8)
})

test('what cannot be counted is not', () => {
  expect(work('other', { anything: 1 }, {})).toBeNull()
  expect(work('container', { image: 'alpine:3' }, { exit_code: 0 })).toBeNull()
})
