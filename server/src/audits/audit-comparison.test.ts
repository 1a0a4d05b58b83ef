import { expect, test } from 'vitest'
import { marketGpu, reportedDevice } from '../gpus/fixture-gpus.ts'
import { type Answer, deviceClassOf, isRepeatable, isSameAnswer } from './audit-comparison.ts'

const result = (output: object, files: { name: string; sha256: string }[] = []): Answer => ({
  kind: 'result',
  output: output as never,
  files,
})
const text = (fields: object = {}) =>
  result({ text: 'a', model: 'm', finish_reason: 'stop', prompt_tokens: 1, completion_tokens: 1, ...fields })
const images = (...hashes: string[]) =>
  result(
    { images: hashes.map((_, index) => ({ file: `${index}.png`, width: 1, height: 1, seed: index })), model: 'm' },
    hashes.map((sha256, index) => ({ name: `${index}.png`, sha256 })).reverse(),
  )
const vectors = (...embeddings: number[][]) => result({ embeddings, dimensions: 2, model: 'm', tokens: 1 })

test('text is the same to the letter, whatever its counters say', () => {
  expect(isSameAnswer('text_generation', text(), text({ completion_tokens: 99 }))).toBe(true)
  expect(isSameAnswer('text_generation', text(), text({ text: 'a ' }))).toBe(false)
  expect(isSameAnswer('text_generation', text(), text({ finish_reason: 'length' }))).toBe(false)
})

test('images are the same by the hash of each file, in their order', () => {
  expect(isSameAnswer('image_generation', images('x', 'y'), images('x', 'y'))).toBe(true)
  expect(isSameAnswer('image_generation', images('x', 'y'), images('y', 'x'))).toBe(false)
  expect(isSameAnswer('image_generation', images('x'), images('x', 'y'))).toBe(false)
})

test('vectors are the same within the last digits', () => {
  expect(isSameAnswer('embedding', vectors([0.6, 0.8]), vectors([0.60005, 0.8]))).toBe(true)
  expect(isSameAnswer('embedding', vectors([0.6, 0.8]), vectors([0.6002, 0.8]))).toBe(false)
  expect(isSameAnswer('embedding', vectors([0.6, 0.8]), vectors([0.6]))).toBe(false)
  expect(isSameAnswer('embedding', vectors([1, 0]), vectors([1, 0], [0, 1]))).toBe(false)
})

test('blaming the question is an answer of its own', () => {
  const blames: Answer = { kind: 'blamed_input' }
  expect(isSameAnswer('text_generation', blames, blames)).toBe(true)
  expect(isSameAnswer('text_generation', blames, text())).toBe(false)
})

test('what others run cannot be compared', () => {
  expect(isSameAnswer('other', result({ done: true }), result({ done: true }))).toBe(false)
})

test('GPUs are of one class with the same hardware, system and agent', () => {
  const classOf = (fields: object) => deviceClassOf(marketGpu(fields))
  expect(classOf({ model: 'NVIDIA GeForce RTX 4090' })).toBe(classOf({ model: 'rtx 4090' }))
  expect(classOf({ model: 'RTX 4090' })).not.toBe(classOf({ model: 'RTX 4080' }))
  expect(classOf({ kind: 'gpu' })).not.toBe(classOf({ kind: 'emulated' }))
  const on = (fields: object) => ({ specs: { ...reportedDevice().specs, ...fields } })
  expect(classOf(on({ os: 'Linux 6.8 x64' }))).toBe(classOf(on({ os: 'Linux 5.15 x64', cpu_model: 'another' })))
  expect(classOf(on({ os: 'Linux 6.8 x64' }))).not.toBe(classOf(on({ os: 'Windows 11 x64' })))
  const emulated = (cpu_model: string) => classOf({ kind: 'emulated', ...on({ cpu_model }) })
  expect(emulated('AMD EPYC 7763')).not.toBe(emulated('Intel Xeon 8370C'))
  expect(classOf({ agentVersion: '0.1.0' })).not.toBe(classOf({ agentVersion: '0.2.0' }))
})

test('a task can be run again where chance has a seed', () => {
  expect(isRepeatable('text_generation', { prompt: 'a', seed: 1 })).toBe(true)
  expect(isRepeatable('text_generation', { prompt: 'a', temperature: 0 })).toBe(true)
  expect(isRepeatable('text_generation', { prompt: 'a', temperature: 1 })).toBe(false)
  expect(isRepeatable('image_generation', { prompt: 'a' })).toBe(false)
  expect(isRepeatable('embedding', { input: ['a'] })).toBe(true)
  expect(isRepeatable('other', { seed: 1 })).toBe(false)
})
