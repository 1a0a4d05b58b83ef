import { expect, test } from 'vitest'
import { micros, wholeMilli } from '@orbyte/protocol'
import { agentId, gpuId, marketGpu, numbered, orb } from '../gpus/fixture-gpus.ts'
import type { MarketGpu } from '../gpus/gpu-registry.ts'
import { model, numbers, type Placed, searchAmong, specsWith } from './fixture-search.ts'
import { wanted } from './fixture-wanted.ts'
import { nearEqualShare, type Wanted } from './matching.ts'

const nowMs = 1_800_000_000_000

const best = (...gpus: MarketGpu[]) =>
  searchAmong(gpus.map(free)).search.choose(wanted({ modelName: 'm' }), { nowMs, random: () => 0 })!.gpus[0]
const free = (gpu: MarketGpu): Placed => ({ gpu, freeMilli: wholeMilli })
const offer = (number: number, fields: Partial<MarketGpu>) =>
  marketGpu({ ...numbered(number), ownModels: ['m'], loadedModels: ['m'], priceMicrosPerHour: orb(1), ...fields })

test('of two that are alike the cheaper is chosen', () => {
  const [cheap, dear] = [offer(1, { priceMicrosPerHour: orb(1) }), offer(2, { priceMicrosPerHour: orb(1.1) })]
  expect([best(cheap, dear), best(dear, cheap)]).toEqual([cheap, cheap])
})

test('one that has the model loaded is chosen before one that has to fetch it, unless that is much cheaper', () => {
  const loaded = offer(1, {})
  expect(best(loaded, offer(2, { loadedModels: [], priceMicrosPerHour: orb(0.9) }))).toBe(loaded)
  const bargain = offer(3, { loadedModels: [], priceMicrosPerHour: orb(0.5) })
  expect(best(loaded, bargain)).toBe(bargain)
})

test('one that ends attempts badly is chosen after one that does not, and a new one is not shut out', () => {
  const [good, bad, fresh] = [
    offer(1, { tasksCompleted: 99 }),
    offer(2, { tasksCompleted: 50, tasksFailed: 50 }),
    offer(3, {}),
  ]
  expect(best(bad, good)).toBe(good)
  expect(best(bad, offer(4, { priceMicrosPerHour: orb(0.9) }))!.id).toBe(gpuId(4))
  expect(best(fresh)).toBe(fresh)
})

test('among near-equals chance decides, so that each gets a turn', () => {
  const alike = [1, 2, 3].map((number) => offer(number, { agentId: agentId(number) }))
  const { search } = searchAmong(alike.map(free))
  const random = numbers(7)
  const chosen = Array.from({ length: 60 }, () => search.choose(wanted(), { nowMs, random })!.gpus[0]!.id)
  for (const { id } of alike) expect(chosen.filter((each) => each === id).length).toBeGreaterThan(8)
})

test('where it costs nobody more, one GPU is taken from a machine that is in use, and several of a machine stay together', () => {
  const machine = [1, 2].map((number) => offer(number, { agentId: agentId(1) }))
  const alone = offer(3, { agentId: agentId(2), priceMicrosPerHour: micros(orb(1) + 1_000) })
  const { search } = searchAmong([...machine, alone].map(free))
  for (let count = 0; count < 20; count++) {
    search.arrived(wanted({ key: 'two', gpus: 2 }))
    search.arrived(wanted())
  }
  expect(search.choose(wanted(), { nowMs, random: () => 0 })!.gpus).toEqual([alone])
  expect(search.choose(wanted({ key: 'two', gpus: 2 }), { nowMs, random: () => 0 })!.gpus).toEqual(machine)
})

test('where hardly any machine will do, the one that does is found, and none where none does', () => {
  const fields = (number: number) => ({
    agentId: agentId(number),
    priceMicrosPerHour: micros(orb(1) + number * 20_000),
  })
  const gpus = Array.from({ length: 60 }, (_, number) =>
    offer(number, { ...fields(number), specs: specsWith(number === 59 ? 64 : 16) }),
  )
  const { search } = searchAmong(gpus.map(free))
  const needing = (ramGb: number) => wanted({ key: `ram ${ramGb}`, requirements: { min_ram_gb: ramGb } })
  expect(search.choose(needing(32), { nowMs, random: () => 0 })!.gpus).toEqual([gpus[59]])
  expect(search.choose(needing(128), { nowMs, random: () => 0 })).toBeNull()
  expect(search.dearestFitting(needing(32), nowMs)).toBe(gpus[59]!.priceMicrosPerHour)
  expect(search.dearestFitting(needing(128), nowMs)).toBeNull()
})

test('the dearest that fits, free or busy, is what a task may cost at most by default', () => {
  const gpus = [1, 2, 3].map((number) => offer(number, { agentId: agentId(number), priceMicrosPerHour: orb(number) }))
  const { index, search } = searchAmong(gpus.map(free))
  index.put(gpus[2]!, { isThere: true, freeMilli: 0 })
  expect(search.dearestFitting(wanted(), nowMs)).toBe(orb(3))
  expect(search.dearestFitting(wanted({ maxPriceMicrosPerHour: orb(2.5) }), nowMs)).toBe(orb(2))
  index.put(gpus[2]!, { isThere: false, freeMilli: 0 })
  expect(search.dearestFitting(wanted(), nowMs)).toBe(orb(2))
  index.remove(gpus[0]!)
  index.remove(gpus[1]!)
  expect(search.dearestFitting(wanted(), nowMs)).toBeNull()
})

test('a GPU that was asked for by name is the one that is chosen, or none', () => {
  const gpus = [1, 2].map((number) => offer(number, { agentId: agentId(number) }))
  const { index, search } = searchAmong(gpus.map(free))
  const second = wanted({ requirements: { gpu_id: gpuId(2) } })
  expect(search.choose(second, { nowMs, random: () => 0 })!.gpus).toEqual([gpus[1]])
  index.put(gpus[1]!, { isThere: true, freeMilli: 0 })
  expect(search.choose(second, { nowMs, random: () => 0 })).toBeNull()
})

test('one that was taken while others were too dear is found again when it is given back', () => {
  const dear = offer(1, { agentId: agentId(1), priceMicrosPerHour: orb(2) })
  const bad = offer(2, { agentId: agentId(2), priceMicrosPerHour: orb(1), auditsFailed: 9 })
  const { index, search } = searchAmong([dear, bad].map(free))
  const asked = wanted({ maxPriceMicrosPerHour: orb(1) })
  const chosen = () => search.choose(asked, { nowMs, random: () => 0 })?.gpus ?? null
  expect(chosen()).toEqual([bad])
  index.setFree(bad.number, 0)
  expect(chosen()).toBeNull()
  index.setFree(bad.number, wholeMilli)
  expect(chosen()).toEqual([bad])
})

test('a GPU of which parts come back is found as a whole once all of it has, wherever it was dropped before', () => {
  const gpu = offer(1, { sharing: true })
  const { index, search } = searchAmong([free(gpu)])
  const isFound = () => search.choose(wanted(), { nowMs, random: () => 0 }) !== null
  index.setFree(gpu.number, 400)
  const seen = [isFound()]
  for (const freeMilli of [700, wholeMilli]) {
    index.setFree(gpu.number, freeMilli)
    seen.push(isFound())
  }
  expect(seen).toEqual([false, false, true])
})

test('a GPU that is new while only a part of it is free is found as a whole later', () => {
  const gpu = offer(1, { sharing: true })
  const { index, search } = searchAmong([{ gpu, freeMilli: 300 }])
  const chosen = () => search.choose(wanted(), { nowMs, random: () => 0 })?.gpus ?? null
  for (const freeMilli of [700, wholeMilli]) index.setFree(gpu.number, freeMilli)
  expect(chosen()).toEqual([gpu])
})

test('a GPU is found whatever its number is, be it the first of all', () => {
  const gpu = offer(1_000, {})
  const { search } = searchAmong([free(gpu)])
  expect(search.choose(wanted(), { nowMs, random: () => 0 })?.gpus).toEqual([gpu])
})

test('of a machine whose owner lets tasks share one GPU, a part is had of that one, and each is had as a whole', () => {
  const alone = offer(1, { agentId: agentId(1), priceMicrosPerHour: orb(1) })
  const shared = offer(2, { agentId: agentId(1), priceMicrosPerHour: orb(3), sharing: true })
  const { index, search } = searchAmong([alone, shared].map(free))
  const half = wanted({ key: 'half', part: { milli: 500, vramGb: 0 } })
  const chosen = (asked: Wanted) => search.choose(asked, { nowMs, random: () => 0 })?.gpus ?? null
  for (const asked of [half, { ...half, key: 'half with m', model, modelName: 'm' }])
    expect(chosen(asked)).toEqual([shared])
  expect(search.dearestFitting({ ...half, maxPriceMicrosPerHour: orb(1) }, nowMs)).toBeNull()
  expect(chosen(wanted())).toEqual([alone])
  Object.assign(alone, { sharing: true })
  Object.assign(shared, { sharing: false })
  for (const gpu of [alone, shared]) index.put(gpu, { isThere: true, freeMilli: wholeMilli })
  expect(chosen(half)).toEqual([alone])
  expect(search.dearestFitting({ ...half, maxPriceMicrosPerHour: orb(1) }, nowMs)).toBe(orb(0.5))
  index.setFree(alone.number, 500)
  expect([chosen(half), chosen(wanted())]).toEqual([[alone], [shared]])
})

test('two GPUs with one number are a mistake', () => {
  const { index } = searchAmong([free(offer(1, {}))])
  expect(() => index.put(offer(1, {}), { isThere: true, freeMilli: 0 })).toThrow('has the number of')
})

test('profiles that no GPU has any more are forgotten, and what takes their place is judged anew', () => {
  const { index, search } = searchAmong([])
  for (let number = 0; number < 2_000; number++) {
    // Each time another region, as an owner who cannot decide.
    const gpu = Object.assign(index.get(gpuId(1)) ?? offer(1, {}), {
      region: `r${number}`,
      vramGb: 1 + (number % 7),
    })
    index.put(gpu, { isThere: true, freeMilli: wholeMilli })
    const asked = wanted({ key: `at least ${number % 5}`, requirements: { min_vram_gb: 1 + (number % 5) } })
    const isFound = search.choose(asked, { nowMs, random: () => 0 }) !== null
    expect(isFound).toBe(number % 7 >= number % 5)
  }
  expect(index.profiles.length).toBeLessThan(300)
})

test('of thousands that are alike but for their prices, each is found in its turn, the cheapest first', () => {
  const gpus = Array.from({ length: 2_500 }, (_, number) =>
    offer(number, {
      agentId: agentId(number >> 1),
      priceMicrosPerHour: micros(orb(1) + ((number * 7_919) % 2_500) * 1_000),
    }),
  )
  const { index, search } = searchAmong(gpus.map(free))
  const random = numbers(3)
  const left = new Set(gpus)
  while (left.size > 0) {
    const [gpu] = search.choose(wanted(), { nowMs, random })!.gpus
    if (left.size % 100 === 0) {
      const cheapest = Math.min(...[...left].map(({ priceMicrosPerHour }) => priceMicrosPerHour))
      expect(gpu!.priceMicrosPerHour).toBeLessThanOrEqual((cheapest + 1_000) * (1 + nearEqualShare) - 1_000)
    }
    expect(left.delete(gpu!)).toBe(true)
    index.setFree(gpu!.number, 0)
  }
  expect(search.choose(wanted(), { nowMs, random })).toBeNull()
  expect(search.dearestFitting(wanted(), nowMs)).toBe(Math.max(...gpus.map((gpu) => gpu.priceMicrosPerHour)))
})

test.each(['as it was', 'after its prices changed'])(
  'a machine that takes the place of one that has gone, %s, is found by tasks that fit it and want several, and by no others',
  (whenGone) => {
    const machine = (agent: number, fields: Partial<MarketGpu> = {}) =>
      [1, 2].map((number) => offer(10 * agent + number, { agentId: agentId(agent), vramGb: 24, ...fields }))
    const first = machine(1)
    const { index, search } = searchAmong(first.map(free))
    const two = wanted({
      key: 'two',
      gpus: 2,
      requirements: { min_vram_gb: 20 },
      maxPriceMicrosPerHour: orb(9),
    })
    const chosen = () => search.choose(two, { nowMs, random: () => 0 })?.gpus ?? null
    const put = (gpu: MarketGpu) => index.put(gpu, { isThere: true, freeMilli: wholeMilli })
    expect(chosen()).toEqual(first)
    if (whenGone === 'after its prices changed') {
      for (const gpu of first) put(Object.assign(gpu, { priceMicrosPerHour: orb(2) }))
      expect(chosen()).toHaveLength(2)
    }
    const place = index.machineOf(first[0]!.number).number
    for (const gpu of first) index.remove(gpu)
    const small = machine(2, { vramGb: 8 })
    for (const gpu of small) put(gpu)
    expect(index.machineOf(small[0]!.number).number).toBe(place)
    expect(chosen()).toBeNull()
    const next = machine(3)
    for (const gpu of next) put(gpu)
    expect(chosen()).toEqual(next)
  },
)

test('models that were only asked for are forgotten, those that a GPU has are not', () => {
  const gpu = offer(1, { ownModels: ['m'], loadedModels: ['m'] })
  const { index, search } = searchAmong([{ gpu, freeMilli: 0 }])
  const asking = (modelName: string) => wanted({ key: modelName, modelName })
  expect(search.choose(asking('m'), { nowMs, random: () => 0 })).toBeNull()
  const kept = index.holdersOf('m')
  for (let number = 0; number < 3_000; number++) search.choose(asking(`m${number}`), { nowMs, random: () => 0 })
  expect(index.holdersOf('m')).toBe(kept)
  index.put(gpu, { isThere: true, freeMilli: wholeMilli })
  expect(search.choose(asking('m'), { nowMs, random: () => 0 })?.gpus).toEqual([gpu])
  index.remove(gpu)
  for (let number = 0; number < 3_000; number++) search.choose(asking(`n${number}`), { nowMs, random: () => 0 })
  expect(index.holdersOf('m')).not.toBe(kept)
})
