import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { manualClock } from '../manual-clock.ts'
import { agentId, gpuId, gpuRecord, heldBy, marketGpu, reportedDevice, userId, whole } from './fixture-gpus.ts'
import { GpuRegistry, type MarketGpu } from './gpu-registry.ts'
import { gpuStatus, isDraining } from './gpu-status.ts'

const startMs = Date.parse('2026-03-01T12:00:00.000Z')

function registryWith(...gpus: ReturnType<typeof gpuRecord>[]) {
  const clock = manualClock(startMs)
  const registry = new GpuRegistry(clock)
  for (const gpu of gpus) registry.put(gpu)
  return { registry, clock }
}

describe('status', () => {
  const cases: [string, Partial<MarketGpu>, ReturnType<typeof gpuStatus>][] = [
    ['no agent has ever backed it', { liveness: null, connected: false }, 'offline'],
    ['its agent is not connected', { connected: false }, 'offline'],
    ['its agent has not been heard for 15 s', { liveness: 'suspect' }, 'available'],
    ['its agent has not been heard for 30 s', { liveness: 'unknown' }, 'offline'],
    ['its agent is dead, while an attempt holds it', { liveness: 'dead', ...heldBy('att') }, 'offline'],
    ['its owner is suspended', { suspended: true }, 'offline'],
    ['an attempt holds it', { ...heldBy('att') }, 'in_use'],
    ['an attempt holds it, and its owner takes nothing new', { ...heldBy('att'), maintenance: true }, 'in_use'],
    ['its owner takes nothing new', { maintenance: true }, 'maintenance'],
    ['its agent says that the owner takes nothing now', { paused: true }, 'maintenance'],
    ['it cools down after a failure', { coolDownUntilMs: Number.MAX_SAFE_INTEGER }, 'available'],
    ['nothing is in the way', {}, 'available'],
  ]
  test.each(cases)('%s', (_when, fields, status) => {
    expect(gpuStatus(marketGpu(fields))).toBe(status)
  })

  test('it drains while an attempt holds it in maintenance', () => {
    expect(isDraining(marketGpu({ maintenance: true, ...heldBy('att') }))).toBe(true)
    expect(isDraining(marketGpu({ maintenance: true }))).toBe(false)
    expect(isDraining(marketGpu({ ...heldBy('att') }))).toBe(false)
  })
})

test('whatever is asked, no more of a GPU is given out than there is, all of what was asked for or nothing, and only holders give back', () => {
  const part = fc.record({
    gpuId: fc.integer({ min: 0, max: 3 }).map(gpuId),
    milli: fc.constantFrom(1, 300, 500, 700, 1_000),
  })
  const step = fc.record({
    do: fc.constantFrom('reserve' as const, 'release' as const),
    taken: fc.uniqueArray(part, { minLength: 1, maxLength: 3, selector: (one) => one.gpuId }),
    attempt: fc.constantFrom('att_1', 'att_2', 'att_3'),
  })
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const { registry } = registryWith(...[0, 1, 2].map((number) => gpuRecord({ id: gpuId(number) })))
      const held = new Map([0, 1, 2].map((number) => [gpuId(number), new Map<string, number>()]))
      const sum = (id: string) => [...held.get(id)!.values()].reduce((total, milli) => total + milli, 0)
      for (const { do: what, taken, attempt } of steps) {
        if (what === 'reserve') {
          const isFree = taken.every(
            ({ gpuId: id, milli }) => held.has(id) && !held.get(id)!.has(attempt) && sum(id) + milli <= 1_000,
          )
          expect(registry.reserve(attempt, taken)).toBe(isFree)
          if (isFree) for (const { gpuId: id, milli } of taken) held.get(id)!.set(attempt, milli)
        } else {
          registry.release(attempt, taken)
          for (const { gpuId: id } of taken) held.get(id)?.delete(attempt)
        }
        for (const { id, holders, takenMilli } of registry.all()) {
          expect(new Map(holders.map(({ attemptId, milli }) => [attemptId, milli]))).toEqual(held.get(id))
          expect(takenMilli).toBe(sum(id))
          expect(takenMilli).toBeLessThanOrEqual(1_000)
        }
      }
    }),
  )
})

test('a GPU that is being deleted cannot be reserved, and one that is held cannot be withdrawn', () => {
  const { registry } = registryWith(gpuRecord({ id: gpuId(1) }))
  registry.reserve('att_1', whole(gpuId(1)))
  expect(registry.withdraw(gpuId(1))).toBe(false)
  registry.release('att_1', whole(gpuId(1)))
  expect(registry.withdraw(gpuId(1))).toBe(true)
  expect(registry.reserve('att_2', whole(gpuId(1)))).toBe(false)
  registry.undoWithdraw(gpuId(1))
  expect(registry.reserve('att_2', whole(gpuId(1)))).toBe(true)
})

test('an agent backs the devices of its last report, and no others of its GPUs', () => {
  const { registry } = registryWith(gpuRecord({ id: gpuId(1) }), gpuRecord({ id: gpuId(2), deviceUuid: 'GPU-2' }))
  const first = { gpuId: gpuId(1), device: reportedDevice() }
  const second = { gpuId: gpuId(2), device: reportedDevice({ uuid: 'GPU-2' }) }
  registry.connect(agentId(1), [first, second])
  expect(registry.all().map(gpuStatus)).toEqual(['available', 'available'])
  registry.connect(agentId(1), [second])
  expect(registry.all().map(gpuStatus)).toEqual(['offline', 'available'])
  registry.setLiveness(agentId(1), 'suspect', true)
  registry.setLiveness(agentId(1), 'alive', true)
  expect(registry.all().map(gpuStatus)).toEqual(['offline', 'available'])
  registry.setLiveness(agentId(1), 'suspect', false)
  expect(registry.all().map(gpuStatus)).toEqual(['offline', 'offline'])
})

test('only what the owner’s limits allow counts as what a GPU can run', () => {
  const { registry } = registryWith(gpuRecord({ id: gpuId(1) }))
  const limits = { task_types: ['embedding' as const, 'container' as const], models: null, min_price_per_hour: null }
  const device = reportedDevice({ task_types: ['text_generation', 'embedding'], limits })
  registry.connect(agentId(1), [{ gpuId: gpuId(1), device }])
  expect(registry.get(gpuId(1))?.taskTypes).toEqual(['embedding'])
})

test('a GPU that moves to another agent no longer follows the old one', () => {
  const { registry } = registryWith(gpuRecord({ id: gpuId(1) }))
  registry.put(gpuRecord({ id: gpuId(1), agentId: agentId(2) }))
  registry.connect(agentId(2), [{ gpuId: gpuId(1), device: reportedDevice() }])
  registry.setLiveness(agentId(1), 'dead', false)
  expect(gpuStatus(registry.get(gpuId(1))!)).toBe('available')
  expect(registry.ofAgent(agentId(1))).toEqual([])
  expect(registry.ofAgent(agentId(2)).map(({ id }) => id)).toEqual([gpuId(1)])
})

test('the GPUs of a suspended owner are offline, also those that come later, until the suspension ends', () => {
  const { registry } = registryWith(gpuRecord({ id: gpuId(1) }))
  registry.setOwnerSuspended(userId(1), true)
  registry.put(gpuRecord({ id: gpuId(2), deviceUuid: 'GPU-2' }))
  registry.connect(agentId(1), [
    { gpuId: gpuId(1), device: reportedDevice() },
    { gpuId: gpuId(2), device: reportedDevice({ uuid: 'GPU-2' }) },
  ])
  expect(registry.all().map(gpuStatus)).toEqual(['offline', 'offline'])
  registry.setOwnerSuspended(userId(1), false)
  expect(registry.all().map(gpuStatus)).toEqual(['available', 'available'])
})

test('listeners hear of what matters to matching, of a removed GPU a last time, and not of heartbeats', () => {
  const { registry, clock } = registryWith(gpuRecord({ id: gpuId(1) }))
  const heard: string[] = []
  const stop = registry.onChange((gpu) => heard.push(gpuStatus(gpu)))
  registry.connect(agentId(1), [{ gpuId: gpuId(1), device: reportedDevice() }])
  clock.advance(5_000)
  registry.setLiveness(agentId(1), 'alive', true)
  registry.setTelemetry(gpuId(1), { utilization_percent: 5, vram_used_gb: 1, temperature_celsius: 40, power_watts: 30 })
  registry.reserve('att_1', whole(gpuId(1)))
  registry.release('att_2', whole(gpuId(1)))
  registry.release('att_1', whole(gpuId(1)))
  expect(heard).toEqual(['available', 'in_use', 'available'])
  expect(registry.get(gpuId(1))?.lastSeenMs).toBe(startMs + 5_000)
  registry.remove(gpuId(1))
  stop()
  registry.put(gpuRecord({ id: gpuId(2) }))
  expect(heard).toEqual(['available', 'in_use', 'available', 'offline'])
  expect(registry.get(gpuId(1))).toBeUndefined()
  expect(registry.ofOwner(userId(1)).map(({ id }) => id)).toEqual([gpuId(2)])
})

test('what the disk says of when a GPU was last heard does not take time back', () => {
  const { registry } = registryWith(gpuRecord({ id: gpuId(1) }))
  registry.connect(agentId(1), [{ gpuId: gpuId(1), device: reportedDevice() }])
  registry.put(gpuRecord({ id: gpuId(1), lastSeenMs: startMs - 60_000, name: 'renamed' }))
  expect(registry.get(gpuId(1))).toMatchObject({
    lastSeenMs: startMs,
    name: 'renamed',
    connected: true,
  })
})

test('GPUs are numbered without gaps: a number is kept as long as the GPU is in, and then given to the next', () => {
  const { registry } = registryWith(...[1, 2, 3].map((number) => gpuRecord({ id: gpuId(number) })))
  const numbers = () => registry.all().map(({ number }) => number)
  expect(numbers()).toEqual([0, 1, 2])
  const second = registry.get(gpuId(2))!
  registry.put(gpuRecord({ id: gpuId(1), region: 'eu' }))
  registry.remove(second.id)
  expect(registry.has(second)).toBe(false)
  registry.put(gpuRecord({ id: gpuId(4) }))
  expect(numbers()).toEqual([0, 2, 1])
  expect([registry.has(registry.get(gpuId(4))!), registry.has(second)]).toEqual([true, false])
})
