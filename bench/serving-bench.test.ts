import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { seededRandom } from '../simulation/seeded-random.ts'
import { runServing } from './serving-bench.ts'
import { replay, type Request } from './serving-replay.ts'

const folder = mkdtempSync(join(tmpdir(), 'orbyte-bench-'))
afterAll(() => rmSync(folder, { recursive: true }))

const random = seededRandom(1, 'requests')
let atSeconds = 0
const requests: Request[] = Array.from({ length: 3_000 }, () => {
  atSeconds += random.integer(0, 2)
  return { atSeconds, runSeconds: random.integer(5, 60), model: `M${Math.floor(30 * random.unit() ** 3)}` }
})
const options = { compression: 1, warmPatienceMs: 15_000, seed: 1 }

test('every request runs once, whether warmth is known or not, and knowing it spares loads', () => {
  const [blind, aware] = [false, true].map((isWarmthKnown) => replay(requests, { ...options, isWarmthKnown }))
  for (const { waitSeconds } of [blind!, aware!]) {
    expect(waitSeconds).toHaveLength(requests.length)
    expect(Math.min(...waitSeconds)).toBeGreaterThanOrEqual(0)
  }
  expect(aware!.coldLoads).toBeLessThan(blind!.coldLoads / 2)
  expect(aware!.busyShare).toBeLessThan(blind!.busyShare)
})

test('the same seed gives the same replay', () => {
  const run = () => replay(requests, { ...options, isWarmthKnown: true })
  expect(run()).toEqual(run())
})

test('time is compressed until the GPUs are as busy as was asked', () => {
  const day = (seconds: number) => new Date(seconds * 1_000).toISOString().slice(0, 19).replace('T', ' ')
  const rows = requests.map((request) => `${day(request.atSeconds)},${request.runSeconds},${request.model}`)
  const path = join(folder, 'requests.csv')
  writeFileSync(path, ['gmt_create,exec_time_seconds,checkpoint_model_version_id', ...rows].join('\n'))
  const [cold, wait] = runServing({ requests: path, busy: '50', seeds: '3' })
  expect([cold!.figure, wait!.figure]).toEqual(['serving.cold_loads_ratio', 'serving.wait_p95_ratio'])
  expect(cold!.value).toBeLessThan(0.5)
  expect(() => runServing({ requests: path, busy: 'much', seeds: '3' })).toThrow('--busy')
})
