import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { type AddressInfo, type Socket, createServer } from 'node:net'
import { fileURLToPath } from 'node:url'
import { afterEach, expect, test, vi } from 'vitest'
import type { Clock } from '../clock.ts'
import type { AttemptReport } from '../executors/executor.ts'
import { systemClock } from '../system-clock.ts'
import { engineEnvironment, mpsFolderOf } from './engine-environment.ts'
import { EngineProcess, type EngineRun, engineEntry } from './engine-process.ts'
import type { FixtureParams } from './fixture-engine.ts'

const open: EngineProcess[] = []
afterEach(async () => {
  await Promise.all(open.splice(0).map((engine) => engine.close()))
})

test('an engine stays warm between runs', async () => {
  const engine = start()
  const first = await engine.run(runOf('echo'))
  const second = await engine.run(runOf('echo'))
  expect(second['pid']).toBe(first['pid'])
})

test('a run reports preparing, ready and output in this order', async () => {
  const seen: string[] = []
  await start().run(runOf('echo', { seen }))
  expect(seen).toEqual(['preparing 0.5', 'ready', 'output started'])
})

test('a crash ends the run with what the engine printed, and the next run has a fresh process', async () => {
  const engine = start()
  await expect(engine.run(runOf('crash'))).rejects.toMatchObject({
    code: 'engine_crashed',
    fault: 'provider',
    message: expect.stringContaining('SIGABRT'),
  })
  expect(await engine.run(runOf('echo'))).toHaveProperty('pid', engine.pid())
})

test('a cancelled run ends with the reason it was cancelled for, and the engine stays warm', async () => {
  const engine = start({ clock: heldClock([]) })
  const cancel = new AbortController()
  const run = engine.run(runOf('obey', { signal: cancel.signal, onOutput: () => cancel.abort() }))
  await expect(run).rejects.toMatchObject({ code: 'cancelled' })
  const pid = engine.pid()
  expect(await engine.run(runOf('echo'))).toEqual({ pid })
})

test('a run that is cancelled while its engine starts ends at once, and leaves the engine to the next', async () => {
  const engine = start()
  const cancel = new AbortController()
  const seen: string[] = []
  const run = engine.run(runOf('obey', { signal: cancel.signal, seen }))
  const pid = engine.pid()
  cancel.abort()
  await expect(run).rejects.toMatchObject({ code: 'cancelled' })
  expect(await engine.run(runOf('echo'))).toEqual({ pid })
  expect(seen).toEqual([])
})

test('an engine that does not hear a cancel is killed', async () => {
  const sleeps: { ms: number; wake: () => void }[] = []
  const engine = start({ clock: heldClock(sleeps) })
  const cancel = new AbortController()
  const run = engine.run(runOf('deaf', { signal: cancel.signal, onOutput: () => cancel.abort() }))
  const ended = expect(run).rejects.toMatchObject({ code: 'cancelled' })
  const patience = await vi.waitUntil(() => sleeps.find((sleep) => sleep.ms === 1_500), { timeout: 20_000 })
  patience.wake()
  await ended
  await vi.waitUntil(() => engine.pid() === null, { timeout: 20_000 })
})

test('an engine whose attempt is over and not renewed ends by itself', async () => {
  const engine = start({ leaseMs: 2_000 })
  let remainingMs = 60_000
  const attempt = { durationMsMax: 60_000, remainingMs: () => remainingMs }
  const run = engine.run({ ...runOf('deaf', { onOutput: () => (remainingMs = 0) }), attempt })
  await expect(run).rejects.toMatchObject({ code: 'deadline_passed', fault: 'provider' })
})

test.each(['SIGSTOP', 'SIGKILL'] as const)('an engine ends by itself when its agent gets %s', async (signal) => {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  // A process of its own plays the agent, with an engine in the middle of a run that hears nothing.
  const program = fileURLToPath(engineEntry('fixture-agent'))
  const agent = spawn(process.execPath, ['--import', import.meta.resolve('tsx'), program, String(port)])
  const agentEnded = once(agent, 'exit')
  try {
    const [engine] = (await once(server, 'connection')) as [Socket]
    agent.kill(signal)
    await once(engine.resume(), 'close')
  } finally {
    agent.kill('SIGKILL')
    await agentEnded
    server.close()
  }
})

test('an engine sees nothing of the environment but what finds programs and drivers', async () => {
  const secrets = { ORBYTE_TOKEN: 'secret', AWS_SECRET_ACCESS_KEY: 'secret', NODE_OPTIONS: '--no-warnings' }
  const environment = engineEnvironment({ ...process.env, ...secrets, CUDA_HOME: '/cuda' }, [])
  const seen = await start({ environment }).run(runOf('environment'))
  expect(Object.values(seen)).not.toContain('secret')
  expect(seen).not.toHaveProperty('NODE_OPTIONS')
  expect(seen).toMatchObject({ CUDA_HOME: '/cuda', PATH: process.env['PATH'] })
})

test('an engine sees only the GPUs that were rented', () => {
  const device = { uuid: 'GPU-6f1d', kind: 'gpu', index: 1, milli: 1_000, vramMib: null } as const
  expect(engineEnvironment({}, [device])).toEqual({
    CUDA_VISIBLE_DEVICES: 'GPU-6f1d',
    HIP_VISIBLE_DEVICES: '1',
    GGML_VK_VISIBLE_DEVICES: '1',
  })
  expect(engineEnvironment({}, [device, { ...device, uuid: 'GPU-7a2e', index: 3 }])).toEqual({
    CUDA_VISIBLE_DEVICES: 'GPU-6f1d,GPU-7a2e',
    HIP_VISIBLE_DEVICES: '1,3',
    GGML_VK_VISIBLE_DEVICES: '1,3',
  })
  expect(engineEnvironment({}, [{ ...device, kind: 'emulated' }])).toEqual({})
})

test('where MPS runs, an engine with a share of a GPU is kept to that share, and one that has all of it is not', () => {
  const device = { uuid: 'GPU-6f1d', kind: 'gpu', index: 0, milli: 1_000, vramMib: null } as const
  const mps = (milli: number, vramMib: number | null) => {
    const environment = engineEnvironment({}, [{ ...device, milli, vramMib }], '/run/mps')
    return Object.entries(environment).filter(([name]) => name.startsWith('CUDA_MPS'))
  }
  expect(mps(1_000, null)).toEqual([])
  expect(mps(255, 6_144)).toEqual([
    ['CUDA_MPS_PIPE_DIRECTORY', '/run/mps'],
    ['CUDA_MPS_ACTIVE_THREAD_PERCENTAGE', '26'],
    ['CUDA_MPS_PINNED_DEVICE_MEM_LIMIT', '0=6912M'],
  ])
  expect(mpsFolderOf({}, (path) => path === '/tmp/nvidia-mps/control')).toBe('/tmp/nvidia-mps')
  expect(mpsFolderOf({ CUDA_MPS_PIPE_DIRECTORY: '/run/mps' }, () => false)).toBeNull()
})

test('a program that does not exist is a crash of the engine, told by its path', async () => {
  const engine = start({ entry: engineEntry('no-such-engine') })
  await expect(engine.check()).rejects.toMatchObject({ code: 'engine_crashed' })
})

type Overrides = { clock?: Clock; environment?: Record<string, string>; entry?: URL; leaseMs?: number }

function start({
  clock = systemClock,
  environment,
  entry = engineEntry('fixture-engine'),
  leaseMs = 60_000,
}: Overrides = {}): EngineProcess {
  const engine = new EngineProcess({
    entry,
    enginesFolder: null,
    environment: environment ?? engineEnvironment(process.env, []),
    clock,
    log: () => {},
    leaseMs,
  })
  open.push(engine)
  return engine
}

type RunOverrides = { seen?: string[]; signal?: AbortSignal; onOutput?: () => void }

function runOf(act: FixtureParams['act'], { seen = [], signal, onOutput }: RunOverrides = {}): EngineRun {
  const report: AttemptReport = {
    preparing: (_phase, fraction) => void seen.push(`preparing ${fraction}`),
    ready: () => void seen.push('ready'),
    output(text) {
      seen.push(`output ${text}`)
      onOutput?.()
    },
    log: () => {},
    file: () => {},
  }
  return { params: { act }, report, signal: signal ?? new AbortController().signal, attempt: { durationMsMax: 60_000 } }
}

/** A clock whose sleeps the test ends one by one. */
function heldClock(sleeps: { ms: number; wake: () => void }[]): Clock {
  return {
    now: () => 0,
    sleep: (ms, signal) =>
      new Promise((resolve, reject) => {
        sleeps.push({ ms, wake: resolve })
        signal?.addEventListener('abort', () => reject(signal.reason))
      }),
  }
}
