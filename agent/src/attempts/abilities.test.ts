import { expect, test } from 'vitest'
import type { Executor, ExecutorProblem } from '../executors/executor.ts'
import { Abilities } from './abilities.ts'

const log = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} }
const problem: ExecutorProblem = { message: 'It is not installed.', remedy: 'Install it.' }

test('the market is told only what works', async () => {
  const abilities = await abilitiesOf([
    executor('llama', { modelFormats: ['gguf'] }),
    executor('onnx', { taskTypes: ['image_generation'], check: async () => problem }),
  ])
  expect(abilities.taskTypes()).toEqual(['text_generation'])
  expect(abilities.modelFormats()).toEqual(['gguf'])
  expect(abilities.problems()).toEqual(['onnx: It is not installed. Install it.'])
})

test('an executor that starts to work later is found', async () => {
  let found: ExecutorProblem | null = problem
  const abilities = await abilitiesOf([executor('llama', { check: async () => found })])
  expect(abilities.taskTypes()).toEqual([])
  found = null
  await abilities.refresh()
  expect(abilities.taskTypes()).toEqual(['text_generation'])
  expect(abilities.problems()).toEqual([])
})

test('the owner’s server is asked again, and not offered while it is down', async () => {
  let found: ExecutorProblem | null = null
  const abilities = await abilitiesOf([executor('openai', { check: async () => found, models: async () => ['qwen'] })])
  expect(abilities.ownModels()).toEqual(['qwen'])
  found = problem
  await abilities.refresh()
  expect(abilities.ownModels()).toEqual([])
  expect(abilities.taskTypes()).toEqual([])
})

test('a check that throws is a problem like another', async () => {
  const abilities = await abilitiesOf([executor('llama', { check: () => Promise.reject(new Error('no library')) })])
  expect(abilities.problems()).toMatchObject([expect.stringContaining('no library')])
})

const gguf = { name: 'tiny', format: 'gguf' }
test.each([
  { what: 'a catalogue model goes to who can load it', model: gguf, input: { model: 'tiny' }, expected: 'llama' },
  { what: 'what nobody can load goes to nobody', model: { ...gguf, format: 'exl2' }, input: {}, expected: null },
  {
    what: 'a catalogue model may be the owner’s',
    model: { name: 'qwen', format: 'exl2' },
    input: {},
    expected: 'openai',
  },
  { what: 'the owner’s model goes to the owner’s server', model: null, input: { model: 'qwen' }, expected: 'openai' },
  { what: 'a model that nobody has goes to nobody', model: null, input: { model: 'gpt-9' }, expected: null },
  { what: 'no model goes to who needs no file', model: null, input: {}, expected: 'openai' },
])('$what', async ({ model, input, expected }) => {
  const abilities = await abilitiesOf([
    executor('openai', { models: async () => ['qwen'] }),
    executor('llama', { modelFormats: ['gguf'] }),
  ])
  expect(abilities.executorFor({ taskType: 'text_generation', model, input, use: 'whole' })?.name ?? null).toBe(
    expected,
  )
})

test('several GPUs, and a share of one, go only to who can use them, and the market hears who that is', async () => {
  const abilities = await abilitiesOf([
    executor('openai', { models: async () => ['tiny'] }),
    executor('llama', { modelFormats: ['gguf'], several: true, shares: true }),
    executor('onnx', { taskTypes: ['image_generation'], modelFormats: ['onnx'], shares: true }),
  ])
  const wanted = { taskType: 'text_generation' as const, model: gguf, input: {} }
  expect(abilities.executorFor({ ...wanted, use: 'several' })?.name).toBe('llama')
  expect(abilities.executorFor({ ...wanted, model: { ...gguf, format: 'exl2' }, use: 'shares' })).toBeNull()
  expect(abilities.executorFor({ ...wanted, model: null, use: 'shares' })).toBeNull()
  expect(abilities.limitedTo('several')).toEqual({ task_types: ['text_generation'], model_formats: ['gguf'] })
  expect(abilities.limitedTo('shares')).toEqual({
    task_types: ['text_generation', 'image_generation'],
    model_formats: ['gguf', 'onnx'],
  })
})

function executor(name: string, changes: Partial<Executor>): Executor {
  return {
    name,
    taskTypes: ['text_generation'],
    modelFormats: null,
    several: false,
    shares: false,
    check: async () => null,
    run: async () => ({}),
    close: async () => {},
    ...changes,
  }
}

async function abilitiesOf(executors: Executor[]): Promise<Abilities> {
  const abilities = new Abilities({ executors, log })
  await abilities.refresh()
  return abilities
}
