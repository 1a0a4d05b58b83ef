import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import type { EnginePool } from '../engines/engine-pool.ts'
import type { LlamaParams } from '../engines/llama-engine.ts'
import { recited, rehearsalModel, rehearsalPrompt } from '../engines/rehearsal-model.ts'
import type { DetectedDevice } from '../gpus/gpu-detector.ts'
import type { Storage } from '../outside.ts'
import { enginesForTest, storageForTest } from './fixture-models.ts'
import { createLlamaExecutor } from './llama-executor.ts'
import { computesText, isUnwatched } from './rehearsal.ts'

const pools: EnginePool[] = []
afterAll(async () => {
  for (const pool of pools) await pool.close()
})

function gpu(uuid: string, changes: Partial<DetectedDevice> = {}): DetectedDevice {
  const found = { kind: 'gpu', index: 0, model: 'NVIDIA H100', vramMib: 81_559, driver: '580.159.04' } as const
  return { uuid, ...found, computeCapability: '9.0', ...changes }
}

/** An agent's executor, with an engine that computes as the uuid says, and a driver that lists all processes with 610 MiB. */
function started(storage: Storage, { processSpace = 'pid:[1]', isListed = true } = {}) {
  let rehearsals = 0
  const pool = enginesForTest('fixture-engine', async () => {
    rehearsals++
    return new Map(isListed ? pool.pids().map((pid) => [pid, 610]) : [])
  })
  pools.push(pool)
  const executor = createLlamaExecutor({ engines: pool, storage, processSpace })
  const rehearse = async (device: DetectedDevice, again = false) => await executor.rehearse!(device, { again })
  return { rehearse, pool, rehearsals: () => rehearsals }
}

test('what computes best is found by computing, with how fast it is and what its process takes', async () => {
  const { rehearse, pool } = started(storageForTest())
  const rehearsal = await rehearse(gpu('GPU-1'))
  expect(rehearsal).toEqual({ computesBy: 'CUDA', tokensPerSecond: expect.any(Number), vramMib: 610, failures: [] })
  expect(computesText({ executor: 'llama', rehearsal })).toMatch(/^llama computes by CUDA, \d+ tokens a second$/)
  expect(pool.pids()).toEqual([])
})

test('where CUDA cannot compute Vulkan does, and it is said why and what to install', async () => {
  const rehearsal = await started(storageForTest()).rehearse(gpu('GPU-no-cuda'))
  expect(rehearsal).toMatchObject({
    computesBy: 'Vulkan',
    failures: [
      {
        library: 'CUDA',
        code: 'engine_crashed',
        message: expect.stringContaining('unsupported toolchain'),
        remedy: 'Install NVIDIA’s driver 590 or newer.',
      },
    ],
  })
})

test.each(['GPU-no-cuda-no-vulkan', 'GPU-wrong'])('on %s nothing computes', async (uuid) => {
  const rehearsal = await started(storageForTest()).rehearse(gpu(uuid))
  expect(rehearsal).toMatchObject({ computesBy: null, tokensPerSecond: null })
  expect(rehearsal.failures.map(({ library }) => library)).toEqual(['CUDA', 'Vulkan'])
})

test('it is remembered for a GPU, its driver and who can be seen, and no longer', async () => {
  const storage = storageForTest()
  const first = started(storage)
  await first.rehearse(gpu('GPU-no-cuda'))
  await first.rehearse(gpu('GPU-no-cuda'))
  expect(first.rehearsals()).toBe(1)
  const later = started(storage)
  const known = await later.rehearse(gpu('GPU-no-cuda'))
  expect([later.rehearsals(), known.computesBy]).toEqual([0, 'Vulkan'])
  await later.rehearse(gpu('GPU-no-cuda'), true)
  await later.rehearse(gpu('GPU-no-cuda', { driver: '590.48.01' }))
  expect(later.rehearsals()).toBe(2)
  const inContainer = started(storage, { processSpace: 'pid:[2]', isListed: false })
  const unseen = await inContainer.rehearse(gpu('GPU-no-cuda', { driver: '590.48.01' }))
  expect(inContainer.rehearsals()).toBe(1)
  expect([isUnwatched('GPU-no-cuda', known), isUnwatched('GPU-no-cuda', unseen)]).toEqual([false, true])
})

test('what was only missing or in use is tried again by the next agent', async () => {
  const storage = storageForTest()
  expect(await started(storage).rehearse(gpu('GPU-no-cuda-full'))).toMatchObject({
    computesBy: 'Vulkan',
    failures: [
      { library: 'CUDA', code: 'out_of_memory', remedy: expect.stringContaining('Close what else uses the GPU') },
    ],
  })
  const later = started(storage)
  await later.rehearse(gpu('GPU-no-cuda-full'))
  expect(later.rehearsals()).toBe(1)
})

test('a GPU on which nothing computes is tried again, also by the same agent', async () => {
  const storage = storageForTest()
  const agent = started(storage)
  const bad = gpu('GPU-no-cuda-no-vulkan')
  const [first, second] = [await agent.rehearse(bad), await agent.rehearse(bad)]
  expect(second).toEqual(first)
  expect(second).not.toBe(first)
})

test('what is kept and cannot be read counts as nothing', async () => {
  const storage = storageForTest()
  for (const text of ['{', '[]', '{"GPU-1": {"circumstances": 1}}']) {
    await storage.write('rehearsals.json', text)
    expect(await started(storage).rehearse(gpu('GPU-1'))).toMatchObject({ computesBy: 'CUDA' })
  }
})

test('the real library recites the alphabet from the model of a rehearsal', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'orbyte-recital-'))
  const modelFile = join(folder, 'model.gguf')
  await writeFile(modelFile, rehearsalModel())
  const pool = enginesForTest('llama-engine')
  pools.push(pool)
  const params: LlamaParams = {
    input: { prompt: rehearsalPrompt, max_tokens: 60, temperature: 0 },
    modelName: 'rehearsal',
    modelFile,
    promptStyle: 'chat_template',
    contextTokens: null,
    device: 'cpu',
    gpuName: null,
  }
  const { output } = await pool.rehearse({ uuid: 'CPU-1', kind: 'cpu', index: 0, milli: 1_000, vramMib: null }, params)
  expect(output).toMatchObject({ text: recited(60), completion_tokens: 60, finish_reason: 'length' })
  expect(recited(60)).toMatch(/^bcd.*xyzabc.*zabcdefgh/)
  await rm(folder, { recursive: true })
})
