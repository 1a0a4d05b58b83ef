import { expect, test } from 'vitest'
import { gpuId, gpuRecord, userId } from '../gpus/fixture-gpus.ts'
import { GpuRegistry } from '../gpus/gpu-registry.ts'
import { manualClock } from '../manual-clock.ts'
import type { Speed } from './speed-estimate.ts'
import { createUsualSpeeds } from './usual-speeds.ts'

const clock = manualClock(1_800_000_000_000)
const speed = (rate: number): Speed => {
  return { attempts: 9, work: rate * 1_000, runMs: 1_000, recentWork: rate * 1_000, recentRunMs: 1_000 }
}

/** GPUs 1, 2, 3, …, each of its own owner's unless `owner` says otherwise, with these speeds. */
function market(rates: readonly number[], fields: (number: number) => object = () => ({})) {
  const registry = new GpuRegistry(clock)
  const speeds = new Map<string, Speed>()
  for (const [index, rate] of rates.entries()) {
    const [id, ownerId] = [`${gpuId(1)}${index}`, `${userId(1)}${index}`]
    registry.put(gpuRecord({ id, ownerId, ...fields(index) }))
    speeds.set(id, speed(rate))
  }
  const usual = createUsualSpeeds(clock, registry)
  return { speeds, of: (number: number) => usual.ofOthers(registry.get(`${gpuId(1)}${number}`)!, 'a model', speeds) }
}

test('what is usual is what others of the kind do, and never what its own owner’s do', () => {
  expect(market([9, 1, 2, 3]).of(0)).toBe(2)
  expect(market([9, 1]).of(0)).toBeNull()
  const sameOwner = (number: number) => (number < 3 ? { ownerId: userId(7) } : {})
  expect(market([9, 9, 9, 1, 2], sameOwner).of(0)).toBe(1)
})

test('GPUs of another kind do not count, however they are written', () => {
  const models = ['RTX 4090', 'NVIDIA GeForce RTX 4090', 'rtx4090', 'RTX 3060', 'RTX 3060']
  expect(market([9, 4, 5, 1, 1], (number) => ({ model: models[number] })).of(0)).toBe(4)
  const kinds = ['gpu', 'emulated', 'gpu', 'gpu'] as const
  expect(market([9, 1, 5, 6], (number) => ({ kind: kinds[number] })).of(0)).toBe(5)
})

test('in a large market it is worked out once a minute', () => {
  const many = market(Array<number>(300).fill(5))
  expect(many.of(0)).toBe(5)
  for (const id of many.speeds.keys()) many.speeds.set(id, speed(1))
  clock.advance(59_999)
  expect(many.of(0)).toBe(5)
  clock.advance(1)
  expect(many.of(0)).toBe(1)
})
