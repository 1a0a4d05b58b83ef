import fc from 'fast-check'
import { expect, test } from 'vitest'
import { ProblemError } from '@orbyte/protocol'
import { gpuId, heldBy, marketGpu, orb, userId } from './fixture-gpus.ts'
import { type GpuQuery, listGpus, matchesFilters } from './gpu-listing.ts'
import type { MarketGpu } from './gpu-registry.ts'

// Few values, so that most of them tie.
const anyGpus = fc
  .array(
    fc.record({
      priceMicrosPerHour: fc.constantFrom(orb(0.1), orb(0.2), orb(0.3)),
      vramGb: fc.constantFrom(8, 24, 79.65),
      createdAt: fc.constantFrom('2026-03-01T12:00:00.000Z', '2026-03-02T12:00:00.000Z'),
      region: fc.constantFrom(null, 'eu-central'),
      kind: fc.constantFrom('gpu' as const, 'cpu' as const),
      ownerId: fc.constantFrom(userId(1), userId(2)),
      connected: fc.boolean(),
      maintenance: fc.boolean(),
    }),
    { maxLength: 30 },
  )
  .map((all) => all.map((fields, index) => marketGpu({ ...fields, id: gpuId(index) })))
const anySort = fc.constantFrom<GpuQuery['sort']>('price', '-price', 'vram', '-vram', 'created', '-created')
const anyPages = fc.record({ sort: anySort, limit: fc.integer({ min: 1, max: 7 }) })
const anyFilters = fc.record(
  {
    min_vram: fc.constantFrom(0, 24, 80),
    max_price: fc.constantFrom(orb(0.1), orb(0.2)),
    region: fc.constant('EU-Central'),
    kind: fc.constantFrom('gpu' as const, 'cpu' as const),
    owner: fc.constantFrom(userId(1), userId(2)),
    status: fc.constantFrom('available' as const, 'maintenance' as const, 'offline' as const),
    available: fc.boolean(),
    model: fc.constantFrom('4090', 'geforce', 'h100'),
  },
  { requiredKeys: [] },
)

/** Follows the cursors to the end; `between` may change what there is after each page. */
function walk(
  gpus: readonly MarketGpu[],
  query: GpuQuery,
  between = (left: readonly MarketGpu[]) => left,
): MarketGpu[] {
  const seen: MarketGpu[] = []
  let cursor: string | undefined
  let there = gpus
  for (let pages = 0; pages <= gpus.length + 1; pages++) {
    const { items, next_cursor } = listGpus(there, { ...query, cursor })
    seen.push(...items)
    if (next_cursor === null) return seen
    expect(items).toHaveLength(query.limit)
    cursor = next_cursor
    there = between(there)
  }
  throw new Error('the cursors never end')
}

const sortedValue = (gpu: MarketGpu, sort: GpuQuery['sort']) =>
  sort.endsWith('price') ? gpu.priceMicrosPerHour : sort.endsWith('vram') ? gpu.vramGb : gpu.createdAt

test('paging visits each GPU that matches exactly once and in order, whatever the sort, the filters and the page', () => {
  fc.assert(
    fc.property(anyGpus, anyFilters, anyPages, (gpus, filters, { sort, limit }) => {
      const seen = walk(gpus, { ...filters, sort, limit })
      const wanted = gpus.filter((gpu) => matchesFilters(gpu, filters))
      expect(seen.map(({ id }) => id).sort()).toEqual(wanted.map(({ id }) => id).sort())
      const values = seen.map((gpu) => sortedValue(gpu, sort))
      const ascending = [...values].sort((a, b) => (a < b ? -1 : a > b ? 1 : 0))
      expect(values).toEqual(sort.startsWith('-') ? ascending.reverse() : ascending)
    }),
  )
})

test('GPUs that come and go between pages make no other one be missed or seen twice', () => {
  fc.assert(
    fc.property(anyGpus, anyPages, fc.integer({ min: 2, max: 5 }), (gpus, { sort, limit }, goes) => {
      const stays = (gpu: MarketGpu) => gpus.indexOf(gpu) % goes !== 0
      const comer = marketGpu({ id: gpuId(1_000), priceMicrosPerHour: orb(0.2), vramGb: 24 })
      const seen = walk(gpus, { sort, limit }, () => [comer, ...gpus.filter(stays)])
      const ids = seen.map(({ id }) => id)
      expect(new Set(ids).size).toBe(ids.length)
      expect(ids).toEqual(expect.arrayContaining(gpus.filter(stays).map(({ id }) => id)))
    }),
  )
})

test('each filter takes what it says and nothing else', () => {
  const gpu = marketGpu({ region: 'eu', vramGb: 24, priceMicrosPerHour: orb(0.3), ownerId: userId(1) })
  const takes = (filters: Parameters<typeof matchesFilters>[1]) => matchesFilters(gpu, filters)
  expect(takes({ model: 'rtx 4090' })).toBe(true)
  expect(takes({ model: '3090' })).toBe(false)
  expect(takes({ min_vram: 24 })).toBe(true)
  expect(takes({ min_vram: 26 })).toBe(false)
  expect(takes({ max_price: orb(0.3) })).toBe(true)
  expect(takes({ max_price: orb(0.299999) })).toBe(false)
  expect(takes({ region: 'EU' })).toBe(true)
  expect(takes({ region: 'us' })).toBe(false)
  expect(takes({ owner: userId(2) })).toBe(false)
  expect(takes({ kind: 'cpu' })).toBe(false)
  expect(takes({ task_type: 'embedding' })).toBe(true)
  expect(takes({ task_type: 'container' })).toBe(false)
  expect(takes({ available: true, status: 'available' })).toBe(true)
  expect(matchesFilters({ ...gpu, ...heldBy('held') }, { available: true })).toBe(false)
  expect(matchesFilters({ ...gpu, ...heldBy('held') }, { status: 'in_use' })).toBe(true)
})

test.each([
  '',
  'garbage',
  Buffer.from('c1:["price"]').toString('base64url'),
  Buffer.from('c1:{').toString('base64url'),
])('a cursor that the list did not give out is refused: %s', (cursor) => {
  expect(() => listGpus([], { sort: 'price', limit: 10, cursor })).toThrow(ProblemError)
})

test('a cursor of another order is refused', () => {
  const gpus = [marketGpu({ id: gpuId(1) }), marketGpu({ id: gpuId(2) })]
  const { next_cursor } = listGpus(gpus, { sort: 'price', limit: 1 })
  expect(() => listGpus(gpus, { sort: '-price', limit: 1, cursor: next_cursor! })).toThrow(/sorted by "-price"/)
})
