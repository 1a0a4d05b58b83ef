import { expect, test } from 'vitest'
import type { Executor, ExecutorProblem } from '../executors/executor.ts'
import type { Rehearsal } from '../executors/rehearsal.ts'
import type { DetectedDevice } from '../gpus/gpu-detector.ts'
import { Abilities } from './abilities.ts'

const log = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} }
const cpu: DetectedDevice = {
  uuid: 'CPU-1',
  index: 0,
  kind: 'cpu',
  model: 'CPU EPYC',
  vramMib: 16_384,
  driver: null,
  computeCapability: null,
}
const gpu = (uuid: string): DetectedDevice => ({ ...cpu, uuid, kind: 'gpu', model: `NVIDIA ${uuid}` })
const problem: ExecutorProblem = { message: 'It is not installed.', remedy: 'Install it.' }

test('the market is told only what works', async () => {
  const abilities = await abilitiesOf([
    executor('llama', { modelFormats: ['gguf'] }),
    executor('onnx', { taskTypes: ['image_generation'], check: async () => problem }),
  ])
  expect(abilities.taskTypes([cpu])).toEqual(['text_generation'])
  expect(abilities.on(cpu).model_formats).toEqual(['gguf'])
  expect(abilities.problems([cpu])).toEqual(['onnx: It is not installed. Install it.'])
})

test('an executor that starts to work later is found', async () => {
  let found: ExecutorProblem | null = problem
  const abilities = await abilitiesOf([executor('llama', { check: async () => found })])
  expect(abilities.taskTypes([cpu])).toEqual([])
  found = null
  await abilities.refresh([cpu])
  expect(abilities.taskTypes([cpu])).toEqual(['text_generation'])
  expect(abilities.problems([cpu])).toEqual([])
})

test('the owner’s server is asked again, and not offered while it is down', async () => {
  let found: ExecutorProblem | null = null
  const abilities = await abilitiesOf([executor('openai', { check: async () => found, models: async () => ['qwen'] })])
  expect(abilities.ownModels()).toEqual(['qwen'])
  found = problem
  await abilities.refresh([cpu])
  expect(abilities.ownModels()).toEqual([])
  expect(abilities.taskTypes([cpu])).toEqual([])
})

test('a check that throws is a problem like another', async () => {
  const abilities = await abilitiesOf([executor('llama', { check: () => Promise.reject(new Error('no library')) })])
  expect(abilities.problems([cpu])).toMatchObject([expect.stringContaining('no library')])
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
  expect(
    abilities.executorFor({ devices: [cpu], taskType: 'text_generation', model, input, use: 'whole' })?.name ?? null,
  ).toBe(expected)
})

test('several GPUs, and a share of one, go only to who can use them, and the market hears who that is', async () => {
  const abilities = await abilitiesOf([
    executor('openai', { models: async () => ['tiny'] }),
    executor('llama', { modelFormats: ['gguf'], several: true, shares: true }),
    executor('onnx', { taskTypes: ['image_generation'], modelFormats: ['onnx'], shares: true }),
  ])
  const wanted = { devices: [cpu], taskType: 'text_generation' as const, model: gguf, input: {} }
  expect(abilities.executorFor({ ...wanted, use: 'several' })?.name).toBe('llama')
  expect(abilities.executorFor({ ...wanted, model: { ...gguf, format: 'exl2' }, use: 'shares' })).toBeNull()
  expect(abilities.executorFor({ ...wanted, model: null, use: 'shares' })).toBeNull()
  expect(abilities.on(cpu, 'several')).toEqual({ task_types: ['text_generation'], model_formats: ['gguf'] })
  expect(abilities.on(cpu, 'shares')).toEqual({
    task_types: ['text_generation', 'image_generation'],
    model_formats: ['gguf', 'onnx'],
  })
})

test('a GPU is offered for what computes on it, and its owner hears what does not, and what to do', async () => {
  const failure = { library: 'CUDA', code: 'engine_crashed', message: 'It aborted.', remedy: 'Another driver.' }
  const rehearsals: Record<string, Rehearsal> = {
    'GPU-good': { computesBy: 'CUDA', tokensPerSecond: 900, vramMib: 610, failures: [] },
    'GPU-bad': { computesBy: null, tokensPerSecond: null, vramMib: null, failures: [failure] },
  }
  const tried: string[] = []
  const llama = executor('llama', {
    modelFormats: ['gguf'],
    rehearse: async ({ uuid }) => {
      tried.push(uuid)
      return rehearsals[uuid]!
    },
  })
  const devices = [cpu, gpu('GPU-good'), gpu('GPU-bad')]
  const abilities = await abilitiesOf([llama, executor('openai', { taskTypes: ['embedding'] })], devices)
  expect(tried.sort()).toEqual(['GPU-bad', 'GPU-good'])
  expect(devices.map((device) => abilities.on(device).task_types)).toEqual([
    ['text_generation', 'embedding'],
    ['text_generation', 'embedding'],
    ['embedding'],
  ])
  const wanted = { taskType: 'text_generation' as const, model: { name: 'tiny', format: 'gguf' }, input: {} }
  expect(abilities.executorFor({ ...wanted, devices: [gpu('GPU-good')], use: 'whole' })?.name).toBe('llama')
  expect(abilities.executorFor({ ...wanted, devices: [gpu('GPU-bad')], use: 'whole' })).toBeNull()
  expect(abilities.problems(devices)).toEqual([
    'NVIDIA GPU-bad: llama does not compute on it; not by CUDA: It aborted → for CUDA: Another driver',
  ])
  // A GPU that came later, and that nobody has tried.
  expect(abilities.isNew(devices)).toBe(false)
  expect(abilities.isNew([gpu('GPU-new')])).toBe(true)
  expect(abilities.on(gpu('GPU-new')).task_types).toEqual(['embedding'])
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

async function abilitiesOf(executors: Executor[], devices: readonly DetectedDevice[] = [cpu]): Promise<Abilities> {
  const abilities = new Abilities({ executors, log })
  await abilities.refresh(devices)
  return abilities
}
