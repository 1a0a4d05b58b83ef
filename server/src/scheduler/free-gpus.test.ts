import fc from 'fast-check'
import { expect, test } from 'vitest'
import { micros } from '@orbyte/protocol'
import { agentId, attemptId, gpuId, gpuRecord, reportedDevice, whole } from '../gpus/fixture-gpus.ts'
import { GpuRegistry } from '../gpus/gpu-registry.ts'
import { manualClock } from '../manual-clock.ts'
import { wanted } from './fixture-wanted.ts'
import { createFreeGpus } from './free-gpus.ts'
import { judgeFit, judgeNow, nearEqualShare, type Wanted } from './matching.ts'

function freeGpusOf(prices: readonly number[]) {
  const clock = manualClock(1_800_000_000_000)
  const registry = new GpuRegistry(clock)
  const [connected, offered] = [new Set<string>(), new Set<string>()]
  const random = { bytes: (count: number) => new Uint8Array(count) }
  const free = createFreeGpus({ clock, random } as unknown as Parameters<typeof createFreeGpus>[0], {
    registry,
    agents: { isConnected: (id) => connected.has(id) },
    book: { offeredMilli: (id) => (offered.has(id) ? 1_000 : 0) },
  })
  for (const [index, price] of prices.entries()) {
    const agent = agentId(index)
    registry.put(gpuRecord({ id: gpuId(index), agentId: agent, priceMicrosPerHour: micros(price) }))
    registry.connect(agent, [{ gpuId: gpuId(index), device: reportedDevice() }])
    connected.add(agent)
  }
  free.catchUp()
  const find = (fields: Partial<Wanted> = {}) => free.find(wanted(fields))?.choice.gpus[0]!.id ?? null
  return { clock, registry, connected, offered, free, find }
}

test('a GPU is found once its agent has been let in, though nobody tells of that', () => {
  const { registry, connected, free, find } = freeGpusOf([])
  registry.put(gpuRecord({ id: gpuId(1), agentId: agentId(1) }))
  registry.connect(agentId(1), [{ gpuId: gpuId(1), device: reportedDevice() }])
  free.catchUp()
  expect(find()).toBeNull()
  connected.add(agentId(1))
  free.catchUp()
  expect(find()).toBe(gpuId(1))
})

test('a GPU whose agent has just gone is not found, though the registry has not heard of it', () => {
  const { connected, find } = freeGpusOf([100, 200])
  connected.delete(agentId(0))
  expect(find()).toBe(gpuId(1))
})

test('what is held, asked, in maintenance, cooling down or removed is not found; what is free again is', () => {
  const { clock, registry, offered, free, find } = freeGpusOf([100])
  const gpu = registry.get(gpuId(0))!
  registry.reserve(attemptId(1), whole(gpu.id))
  expect(find()).toBeNull()
  registry.release(attemptId(1), whole(gpu.id))
  expect(find()).toBe(gpu.id)
  offered.add(gpu.id)
  free.askedChanged(gpu.id)
  expect(find()).toBeNull()
  offered.clear()
  free.askedChanged(gpu.id)
  expect(find()).toBe(gpu.id)
  registry.patch(gpu.id, { maintenance: true })
  expect(find()).toBeNull()
  registry.patch(gpu.id, { maintenance: false, coolDownUntilMs: clock.now() + 30_000 })
  expect(find()).toBeNull()
  clock.advance(29_999)
  free.catchUp()
  expect(find()).toBeNull()
  clock.advance(1)
  free.catchUp()
  expect(find()).toBe(gpu.id)
  registry.remove(gpu.id)
  expect(find()).toBeNull()
})

test('a GPU that was lent and is gone changes nothing for the one that has its number now', () => {
  const { registry, connected, free } = freeGpusOf([100])
  const gone = registry.get(gpuId(0))!
  registry.remove(gone.id)
  registry.put(gpuRecord({ id: gpuId(1), agentId: agentId(1) }))
  connected.add(agentId(1))
  registry.connect(agentId(1), [{ gpuId: gpuId(1), device: reportedDevice() }])
  const next = registry.get(gpuId(1))!
  expect(next.number).toBe(gone.number)
  registry.reserve(attemptId(1), whole(next.id))
  expect(free.find(wanted(), [gone])).toBeNull()
  registry.release(attemptId(1), whole(next.id))
  expect(free.find(wanted(), [gone])?.choice.gpus).toEqual([next])
})

test('a GPU that has failed the task is asked again once its time has come, where no other could run it, free or busy', () => {
  const { clock, registry, find } = freeGpusOf([100, 200])
  const failedGpus = new Map([[gpuId(0), clock.now() + 1_000]])
  registry.reserve(attemptId(1), whole(gpuId(1)))
  expect(find({ failedGpus })).toBeNull()
  clock.advance(1_000)
  expect(find({ failedGpus })).toBeNull()
  expect(find({ failedGpus, maxPriceMicrosPerHour: micros(150) })).toBe(gpuId(0))
  registry.release(attemptId(1), whole(gpuId(1)))
  expect(find({ failedGpus })).toBe(gpuId(1))
})

test('whatever happens to the GPUs, the one that is found is one that the rankers let through, and none is cheaper by more than the share', () => {
  const anyEvent = fc.record({
    gpu: fc.nat(5),
    what: fc.constantFrom(
      'reserve',
      'release',
      'maintenance',
      'cool',
      'price',
      'disconnect',
      'connect',
      'remove',
      'put',
    ),
    amount: fc.integer({ min: 1, max: 300 }),
  })
  fc.assert(
    fc.property(fc.array(anyEvent, { maxLength: 60 }), fc.option(fc.integer({ min: 1, max: 300 })), (events, max) => {
      const { clock, registry, free } = freeGpusOf([100, 101, 102, 150, 200, 250])
      for (const { gpu, what, amount } of events) {
        const [id, agent] = [gpuId(gpu), agentId(gpu)]
        if (what === 'reserve') registry.reserve(attemptId(gpu), whole(id))
        if (what === 'release') registry.release(attemptId(gpu), whole(id))
        if (what === 'maintenance') registry.patch(id, { maintenance: amount > 150 })
        if (what === 'cool') registry.patch(id, { coolDownUntilMs: clock.now() + amount * 100 })
        if (what === 'price') registry.patch(id, { priceMicrosPerHour: micros(amount) })
        if (what === 'disconnect') registry.setLiveness(agent, 'dead', false)
        if (what === 'connect') registry.connect(agent, [{ gpuId: id, device: reportedDevice() }])
        if (what === 'remove') registry.remove(id)
        if (what === 'put') registry.put(gpuRecord({ id, agentId: agent, priceMicrosPerHour: micros(amount) }))
        clock.advance(amount * 10)
        free.catchUp()
        const asked = wanted({ maxPriceMicrosPerHour: max === null ? null : micros(max) })
        const verdicts = registry.all().map((each) => judgeNow(asked, each, clock.now()))
        const costs = verdicts.flatMap(({ rejection, score }) => (rejection ? [] : [-score]))
        const found = free.find(asked)
        expect(found === null).toBe(costs.length === 0)
        if (!found) continue
        const verdict = judgeNow(asked, found.choice.gpus[0]!, clock.now())
        expect(verdict.rejection ?? judgeFit(asked, found.choice.gpus[0]!, clock.now()).rejection).toBeNull()
        expect(-verdict.score).toBeLessThanOrEqual(Math.min(...costs) * (1 + nearEqualShare))
      }
    }),
    { numRuns: 300 },
  )
})
