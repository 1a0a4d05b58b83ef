import { createServer } from 'node:http'
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { loadAgentOptions } from '../agent-config.ts'
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

test('an agent that runs with --cpu offers what this command alone would not find', async () => {
  const device = { index: 0, uuid: 'CPU-1', gpu_id: null, name: 'mine', model: 'CPU EPYC', kind: 'cpu', vram_gb: 16 }
  const status = { price_per_hour: null, computes: [], cool_down_ms: 0, status: 'available' as const, attempts: [] }
  const doctor = doctorOf([], { runningAgent: async () => ({ connected: true, devices: [{ ...device, ...status }] }) })
  const checks = await examine({ ...doctor, outside: { ...doctor.outside, detectors: () => [] } })
  expect(checks.find(({ name }) => name === 'GPUs')).toMatchObject({
    state: 'ok',
    message: 'CPU EPYC (16.0 GiB), by the agent that runs',
  })
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
