import { afterEach, expect, test } from 'vitest'
import { type AttemptInput, AttemptError, type ExecutorDevice } from '../executors/executor.ts'
import { recordReport } from '../executors/executor-suite.ts'
import { systemClock } from '../system-clock.ts'
import { driverMibMax } from './engine-environment.ts'
import { createEnginePool, type EnginePool } from './engine-pool.ts'
import { engineEntry } from './engine-process.ts'
import type { FixtureParams } from './fixture-engine.ts'

const pools: EnginePool[] = []
afterEach(async () => {
  for (const pool of pools.splice(0)) await pool.close()
})

function poolWith(usedMib: (pool: EnginePool) => ReadonlyMap<number, number> | null = () => new Map()): EnginePool {
  const pool: EnginePool = createEnginePool({
    entry: engineEntry('fixture-engine'),
    enginesFolder: null,
    environment: process.env,
    clock: systemClock,
    readVram: async () => usedMib(pool),
    log: () => {},
  })
  pools.push(pool)
  return pool
}

const device = (uuid: string, part: Partial<ExecutorDevice> = {}): ExecutorDevice => ({
  ...{ uuid, kind: 'gpu', index: 0, milli: 1_000, vramMib: null },
  ...part,
})
const share = device('GPU-1', { milli: 250, vramMib: 4_096 })

function run(pool: EnginePool, devices: ExecutorDevice[], act: FixtureParams['act']) {
  const attempt: AttemptInput = {
    attemptId: 'attempt-1',
    taskType: 'other',
    input: {},
    model: null,
    devices,
    durationMsMax: 60_000,
  }
  return pool.run(attempt, { params: { act }, report: recordReport(), signal: new AbortController().signal })
}

test('a whole GPU keeps its engine warm; whoever has a share or several GPUs gets a process of their own, which ends', async () => {
  const pool = poolWith()
  const pids: unknown[] = []
  for (let count = 0; count < 2; count++) pids.push((await run(pool, [device('GPU-1')], 'echo'))['pid'])
  expect(pids[0]).toBe(pids[1])
  for (const devices of [[share], [share], [device('GPU-1'), device('GPU-2')]]) {
    pids.push((await run(pool, devices, 'echo'))['pid'])
    expect(pool.pids()).toEqual([])
  }
  // What was warm had VRAM that was others' then.
  pids.push((await run(pool, [device('GPU-1')], 'echo'))['pid'])
  expect(new Set(pids).size).toBe(5)
  // And what is warm has VRAM that its owner wants back.
  await pool.free('GPU-2')
  expect(pool.pids()).toEqual([pids.at(-1)])
  await pool.free('GPU-1')
  expect(pool.pids()).toEqual([])
})

test('two renters on one GPU are in two processes at the same time, each with what it rented', async () => {
  const pool = poolWith()
  const both = [run(pool, [share], 'environment'), run(pool, [{ ...share, milli: 500 }], 'environment')]
  const seen = await Promise.all(both)
  for (const environment of seen) expect(environment['CUDA_VISIBLE_DEVICES']).toBe('GPU-1')
})

test('who uses more VRAM than their share has is ended at their own fault, and the others go on', async () => {
  const driver = driverMibMax
  let greedyPid: number | undefined
  const pool = poolWith((all) => {
    greedyPid ??= all.pids()[0]
    return new Map(all.pids().map((pid) => [pid, pid === greedyPid ? driver + 4_097 : driver + 4_096]))
  })
  const [greedy, modest] = [run(pool, [share], 'obey'), run(pool, [share], 'obey')]
  await expect(greedy).rejects.toMatchObject({ code: 'vram_exceeded', fault: 'renter' })
  await expect(greedy).rejects.toBeInstanceOf(AttemptError)
  expect(pool.pids()).toHaveLength(1)
  modest.catch(() => {})
})

test('a share of a GPU whose driver says nothing any more is ended at the provider’s fault, and one of an emulated GPU is not', async () => {
  let looks = 0
  const pool = poolWith(() => (looks++ < 2 ? new Map() : null))
  const emulated = run(pool, [{ ...share, kind: 'emulated' }], 'obey')
  emulated.catch(() => {})
  await expect(run(pool, [share], 'obey')).rejects.toMatchObject({ code: 'vram_unseen', fault: 'provider' })
  expect(pool.pids()).toHaveLength(1)
})
