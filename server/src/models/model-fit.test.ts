import { expect, test } from 'vitest'
import type { Model } from '@orbyte/protocol'
import { marketGpu } from '../gpus/fixture-gpus.ts'
import { gpuCanRunModel, modelsOfGpu, resolveModel } from './model-fit.ts'

const model = (fields: Partial<Model>): Model => ({
  name: 'small',
  title: 'Small',
  description: 'A model.',
  task_types: ['text_generation'],
  format: 'gguf',
  files: [],
  parameters: 1,
  context_tokens: null,
  prompt_style: null,
  vram_gb: 4,
  licence: 'MIT',
  origin: 'Here.',
  deterministic: false,
  demo: true,
  ...fields,
})
const limits = (models: string[] | null) => ({ task_types: null, models, min_price_per_hour: null })

test.each([
  ['its format is loaded and it fits', {}, true],
  ['its VRAM is just enough', { vramGb: 4 }, true],
  ['its VRAM is too small', { vramGb: 3.99 }, false],
  ['no executor loads the format', { modelFormats: ['wordvec'] }, false],
  ['it does none of the task types', { taskTypes: ['embedding' as const] }, false],
  ['the owner allows this model', { limits: limits(['small']) }, true],
  ['the owner allows other models only', { limits: limits(['other']) }, false],
  ['the owner’s server has it, whatever its size', { ownModels: ['small'], modelFormats: [], vramGb: 1 }, true],
  [
    'the owner’s server has it, but the owner does not allow it',
    { ownModels: ['small'], limits: limits(['other']) },
    false,
  ],
])('whether a GPU can run a model: %s', (_when, gpu, can) => {
  expect(gpuCanRunModel(marketGpu(gpu), model({}))).toBe(can)
})

test('the models of a GPU are those of the catalogue that fit, then those of the owner’s server, each once', () => {
  const catalogue = [model({ name: 'small' }), model({ name: 'huge', vram_gb: 400 })]
  const gpu = marketGpu({ ownModels: ['llama3', 'small'] })
  expect(modelsOfGpu(gpu, catalogue)).toEqual(['small', 'llama3'])
  expect(modelsOfGpu({ ...gpu, limits: limits(['llama3']) }, catalogue)).toEqual(['llama3'])
})

test('a name means the model of that name if it does the task type; no name means the first that does', () => {
  const text = model({ name: 'text' })
  const vectors = model({ name: 'vectors', task_types: ['embedding'] })
  const catalogue = [text, model({ name: 'more text' }), vectors]
  expect(resolveModel(catalogue, 'text_generation', undefined)).toBe(text)
  expect(resolveModel(catalogue, 'embedding', undefined)).toBe(vectors)
  expect(resolveModel(catalogue, 'embedding', 'vectors')).toBe(vectors)
  expect(resolveModel(catalogue, 'embedding', 'text')).toBeNull()
  expect(resolveModel(catalogue, 'text_generation', 'llama3')).toBeNull()
  expect(resolveModel(catalogue, 'container', undefined)).toBeNull()
})
