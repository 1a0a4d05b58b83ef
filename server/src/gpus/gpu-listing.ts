import { type api, type ParsedInputOf, problem } from '@orbyte/protocol'
import { decodeCursor, encodeCursor, type Page } from '../http/page.ts'
import { isSoldAs } from './gpu-hardware.ts'
import type { MarketGpu } from './gpu-registry.ts'
import { gpuStatus } from './gpu-status.ts'

export type GpuQuery = ParsedInputOf<typeof api.gpus.list>
type Filters = Omit<GpuQuery, 'limit' | 'cursor' | 'sort'>
type Sort = GpuQuery['sort']
/** Where a page ended: the sorted value and, because values tie, the id. */
type Place = { readonly value: number | string; readonly id: string }

/** One page of the GPUs that match, in the order of `sort` and, among equals, of age. */
export function listGpus(gpus: readonly MarketGpu[], query: GpuQuery): Page<MarketGpu> {
  const { limit, cursor, sort, ...filters } = query
  const after = cursor === undefined ? null : readCursor(cursor, sort)
  const ordered = gpus
    .filter((gpu) => matchesFilters(gpu, filters) && (after === null || compare(placeOf(gpu, sort), after, sort) > 0))
    .sort((a, b) => compare(placeOf(a, sort), placeOf(b, sort), sort))
  const items = ordered.slice(0, limit)
  const last = items.at(-1)
  return { items, next_cursor: last && ordered.length > limit ? writeCursor(placeOf(last, sort), sort) : null }
}

export function matchesFilters(gpu: MarketGpu, filters: Filters): boolean {
  const status = gpuStatus(gpu)
  return (
    (filters.model === undefined || gpu.model.toLowerCase().includes(filters.model.toLowerCase())) &&
    (filters.min_vram === undefined || isSoldAs(gpu.vramGb, filters.min_vram)) &&
    (filters.max_price === undefined || gpu.priceMicrosPerHour <= filters.max_price) &&
    (filters.status === undefined || status === filters.status) &&
    (filters.region === undefined || gpu.region?.toLowerCase() === filters.region.toLowerCase()) &&
    (filters.owner === undefined || gpu.ownerId === filters.owner) &&
    (filters.kind === undefined || gpu.kind === filters.kind) &&
    (filters.task_type === undefined || gpu.taskTypes.includes(filters.task_type)) &&
    (filters.available !== true || status === 'available')
  )
}

function placeOf(gpu: MarketGpu, sort: Sort): Place {
  switch (sort) {
    case 'price':
    case '-price':
      return { value: gpu.priceMicrosPerHour, id: gpu.id }
    case 'vram':
    case '-vram':
      return { value: gpu.vramGb, id: gpu.id }
    case 'created':
    case '-created':
      return { value: gpu.createdAt, id: gpu.id }
  }
}

function compare(a: Place, b: Place, sort: Sort): number {
  if (a.value === b.value) return a.id === b.id ? 0 : a.id < b.id ? -1 : 1
  return a.value < b.value === sort.startsWith('-') ? 1 : -1
}

function writeCursor({ value, id }: Place, sort: Sort): string {
  return encodeCursor(JSON.stringify([sort, value, id]))
}

/** Throws `invalid_cursor` on what this list did not give out, or gave out for another order. */
function readCursor(cursor: string, sort: Sort): Place {
  const parsed = parseJson(decodeCursor(cursor))
  const [forSort, value, id]: unknown[] = Array.isArray(parsed) ? parsed : []
  const valueType = sort.endsWith('created') ? 'string' : 'number'
  if (forSort !== sort || typeof value !== valueType || typeof id !== 'string')
    throw problem(
      'invalid_cursor',
      `The cursor is not one of this list sorted by "${sort}". Start again without a cursor.`,
    )
  return { value: value as Place['value'], id }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return null
  }
}
