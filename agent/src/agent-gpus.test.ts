import { readFileSync } from 'node:fs'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { EnginePool } from './engines/engine-pool.ts'
import { enginesForTest, storageForTest } from './executors/fixture-models.ts'
import { createLlamaExecutor } from './executors/llama-executor.ts'
import { createMachine, type FixtureMachine } from './fixture-machine.ts'
import { createNvidiaDetector } from './gpus/nvidia.ts'

let machine: FixtureMachine
let pool: EnginePool
beforeEach(async () => {
  machine = await createMachine()
})
afterEach(async () => {
  await machine.close()
  await pool.close()
})

const recorded = readFileSync(new URL('gpus/recorded/nvidia-h100.csv', import.meta.url), 'utf8')

/** An agent on a machine with an H100 as its driver was recorded, and an engine that computes on it. */
async function startOnH100({ uuid = 'GPU-1', isListed = true } = {}) {
  pool = enginesForTest('fixture-engine', async () => new Map(isListed ? pool.pids().map((pid) => [pid, 28]) : []))
  const stdout = recorded.replace(/GPU-[0-9a-f-]+/, uuid)
  const run = async () => ({ exitCode: 0, stdout, stderr: '' })
  const agent = await machine.start(
    { sharing: true },
    {
      executors: [createLlamaExecutor({ engines: pool, storage: storageForTest(), processSpace: null })],
      detectors: () => [createNvidiaDetector({ run, ramBytes: 2 ** 40 })],
    },
  )
  return { agent, device: machine.market.all('hello').at(-1)!.devices[0]! }
}

test('what computes on a GPU is known before it is offered, and what that takes of its VRAM is not sold', async () => {
  const { agent, device } = await startOnH100()
  expect(device).toMatchObject({
    vram_mib: 81_559,
    usable_vram_mib: 81_559 - 480 - 28,
    task_types: ['text_generation'],
  })
  expect(device.shares.task_types).toEqual(['text_generation'])
  const { devices, problems } = agent.status()
  expect(devices).toMatchObject([
    {
      vram_gb: 81_559 / 1_024,
      usable_vram_gb: 79.1,
      computes: [{ executor: 'llama', rehearsal: { computesBy: 'CUDA' } }],
    },
  ])
  expect(problems).toEqual([])
  expect(machine.logged).toContainEqual(
    expect.stringMatching(/H100 80GB HBM3: llama computes by CUDA, \d+ tokens a second$/),
  )
})

test('where the driver does not list the agent’s processes nobody gets a share, and the owner is told what to do', async () => {
  const { agent, device } = await startOnH100({ isListed: false })
  expect(device).toMatchObject({ task_types: ['text_generation'], shares: { task_types: [], model_formats: [] } })
  const told = expect.stringMatching(/^NVIDIA H100 80GB HBM3: no shares of it are offered: .* start it with --pid=host/)
  expect(agent.status().problems).toEqual([told])
  expect(machine.logged).toContainEqual(told)
})

test('where CUDA does not compute Vulkan does, which the owner finds in the log with what to install', async () => {
  const { agent, device } = await startOnH100({ uuid: 'GPU-no-cuda' })
  expect(device.task_types).toEqual(['text_generation'])
  expect(agent.status().problems).toEqual([])
  expect(machine.logged).toContainEqual(
    expect.stringMatching(
      /computes by Vulkan, .*; not by CUDA: .*unsupported toolchain → for CUDA: Install NVIDIA’s driver 590/,
    ),
  )
})
