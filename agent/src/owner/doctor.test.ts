import { createServer } from 'node:http'
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { loadAgentOptions } from '../agent-config.ts'
import type { DeviceStatus } from '../agent-status.ts'
import type { Executor } from '../executors/executor.ts'
import type { Rehearsal } from '../executors/rehearsal.ts'
import { systemOutside } from '../system-outside.ts'
import { type DoctorOptions, examine } from './doctor.ts'

const folder = await mkdtemp(join(tmpdir(), 'orbyte-doctor-'))
let answer: unknown = {}
const server = createServer((_request, response) => void response.end(JSON.stringify(answer))).listen(0, '127.0.0.1')
await once(server, 'listening')
const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
afterAll(async () => {
  server.close()
  await rm(folder, { recursive: true })
})

const market = { mode: 'mock', paused: false, fee_percent: 0, emulated_gpus: true }
const counts = { gpus_connected: 0, gpus_free: 0, tasks_pending: 0, tasks_running: 0 }
const health = { status: 'ok', version: '0.1.0', uptime_s: 1, market: { ...market, ...counts }, agent_package: null }

test('a machine that has everything is told so', async () => {
  answer = health
  const checks = await examine(doctorOf(['--token', 'secret', '--emulate', 'RTX 4090:24']))
  expect(checks.filter(({ state }) => state !== 'ok')).toEqual([])
  expect(checks.map(({ name }) => name)).toEqual([
    'Node.js',
    'data folder',
    'disk space',
    'market',
    'enrolment',
    'agent',
    'GPUs',
    'executor embedding',
  ])
})

test('each problem comes with what to do', async () => {
  answer = { hello: 'world' }
  const doctor = doctorOf([], {
    nodeVersion: '18.20.1',
    runningAgent: async () => ({ connected: false, devices: [] }),
  })
  const checks = await examine({
    ...doctor,
    outside: {
      ...doctor.outside,
      detectors: () => [],
      executors: [
        {
          name: 'llama',
          taskTypes: ['text_generation'],
          modelFormats: ['gguf'],
          several: true,
          shares: true,
          check: async () => ({ message: 'The library is missing.', remedy: 'orbyte agent engines' }),
          run: async () => ({}),
          close: async () => {},
        },
      ],
      machine: { ...doctor.outside.machine, diskFreeBytes: async () => 2 ** 30 },
    },
  })
  expect(checks).toMatchObject([
    { name: 'Node.js', state: 'problem', remedy: expect.stringContaining('20.19') },
    { name: 'data folder', state: 'ok' },
    { name: 'disk space', state: 'problem', message: '1.0 GiB free' },
    { name: 'market', state: 'problem', message: expect.stringContaining('no Orbyte market') },
    { name: 'enrolment', state: 'problem', remedy: expect.stringContaining('orbyte tokens create') },
    { name: 'agent', state: 'problem', remedy: expect.stringContaining('orbyte agent status') },
    { name: 'GPUs', state: 'problem', remedy: expect.stringContaining('--cpu') },
    { name: 'executor llama', state: 'problem', remedy: 'orbyte agent engines' },
  ])
})

const runningDevice: DeviceStatus = {
  ...{ index: 0, uuid: 'CPU-1', gpu_id: null, name: 'mine', model: 'CPU EPYC', kind: 'cpu', vram_gb: 16 },
  ...{ price_per_hour: null, computes: [], cool_down_ms: 0, status: 'available', attempts: [] },
}

test('an agent that runs with --cpu offers what this command alone would not find', async () => {
  const doctor = doctorOf([], { runningAgent: async () => ({ connected: true, devices: [runningDevice] }) })
  const checks = await examine({ ...doctor, outside: { ...doctor.outside, detectors: () => [] } })
  expect(checks.find(({ name }) => name === 'GPUs')).toMatchObject({
    state: 'ok',
    message: 'CPU EPYC (16.0 GiB), by the agent that runs',
  })
})

test('what computes on each GPU is tried, or asked of the agent that runs there', async () => {
  const h100 = { index: 0, kind: 'gpu', model: 'NVIDIA H100', vramMib: 81_559, driver: '580' } as const
  const failure = { library: 'CUDA', code: 'engine_crashed', message: 'It aborted.', remedy: 'Another driver.' }
  const byVulkan: Rehearsal = { computesBy: 'Vulkan', tokensPerSecond: 900, vramMib: 28, failures: [failure] }
  const rehearsals: Record<string, Rehearsal> = {
    'GPU-1': byVulkan,
    'GPU-2': { ...byVulkan, computesBy: null, vramMib: null, tokensPerSecond: null },
    'GPU-3': { ...byVulkan, computesBy: 'CUDA', vramMib: null, failures: [] },
  }
  const tried: string[] = []
  const doctor = doctorOf([])
  const [embedding] = doctor.outside.executors
  const rehearse: Executor['rehearse'] = async ({ uuid }, { again }) => {
    if (again) tried.push(uuid)
    return rehearsals[uuid]!
  }
  const machine = {
    executors: [{ ...embedding!, name: 'llama', rehearse }],
    detectors: () => [
      {
        name: 'NVIDIA',
        detect: async () => Object.keys(rehearsals).map((uuid) => ({ ...h100, uuid, computeCapability: null })),
        telemetry: async () => new Map(),
      },
    ],
  }
  const ofGpus = async (runningAgent: DoctorOptions['runningAgent']) => {
    const checks = await examine({ ...doctor, outside: { ...doctor.outside, ...machine }, runningAgent })
    return checks.filter(({ name }) => name === 'NVIDIA H100')
  }
  const found = [
    { state: 'note', message: expect.stringContaining('computes by Vulkan'), remedy: 'for CUDA: Another driver' },
    { state: 'problem', message: 'llama does not compute on it; not by CUDA: It aborted' },
    { state: 'ok', message: 'llama computes by CUDA, 900 tokens a second', remedy: null },
    { state: 'note', message: expect.stringContaining('no shares'), remedy: expect.stringContaining('--pid=host') },
  ]
  expect(await ofGpus(async () => null)).toMatchObject(found)
  expect(tried).toEqual(['GPU-1', 'GPU-2', 'GPU-3'])
  const devices = Object.entries(rehearsals).map(([uuid, rehearsal]) => {
    const computes = [{ executor: 'llama', rehearsal }]
    return { ...runningDevice, uuid, computes }
  })
  expect(await ofGpus(async () => ({ connected: true, devices }))).toMatchObject(found)
  expect(tried).toHaveLength(3)
})

test('a market that is not there is said', async () => {
  const checks = await examine(doctorOf(['--server', 'http://127.0.0.1:9', '--token', 'x']))
  expect(checks.find(({ name }) => name === 'market')).toMatchObject({
    state: 'problem',
    message: expect.stringContaining('http://127.0.0.1:9 cannot be reached'),
  })
})

function doctorOf(args: string[], changes: Partial<DoctorOptions> = {}): DoctorOptions {
  const options = loadAgentOptions(['--server', url, '--data', folder, '--log-level', 'silent', ...args], {})
  const outside = systemOutside(options, {})
  // The native engines have tests of their own.
  const executors = outside.executors.filter(({ name }) => name === 'embedding')
  return {
    options,
    outside: { ...outside, executors },
    nodeVersion: '22.1.0',
    fetch,
    runningAgent: async () => null,
    signal: new AbortController().signal,
    ...changes,
  }
}
