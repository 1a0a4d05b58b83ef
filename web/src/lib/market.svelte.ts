import type { api, InputOf, OutputOf } from '@orbyte/protocol'
import { pages } from '@orbyte/sdk'
import { atMostEvery } from './at-most-every.ts'
import { client } from './client.ts'
import { orb } from './format.ts'
import { listen } from './live.svelte.ts'
import { Query } from './query.svelte.ts'

export type Gpu = OutputOf<typeof api.gpus.get>
export type GpuFilters = Omit<InputOf<typeof api.gpus.list>, 'limit' | 'cursor'>
export type ModelGroup = { model: string; vramGb: number; count: number; free: number; low: number; high: number }

/** As many as a page shows. Whoever has more to choose from filters. */
const gpusMax = 2_000

export async function allGpus(filters: GpuFilters, signal: AbortSignal): Promise<Gpu[]> {
  const found: Gpu[] = []
  for await (const gpu of pages(client.gpus.list, { ...filters, limit: 200 }, { signal }))
    if (found.push(gpu) >= gpusMax) break
  return found
}

/** The GPUs of the market that match, kept as they are now. */
export class MarketGpus {
  readonly query: Query<Gpu[]>

  constructor(filters: () => GpuFilters) {
    this.query = new Query((signal) => allGpus(filters(), signal))
  }

  /** For an `$effect`. */
  follow = (): (() => void) => {
    const stopQuery = this.query.follow()
    const again = atMostEvery(500, this.query.reload)
    const stopLive = listen({ name: 'market' }, (message) => {
      // Whether one that was not there matches, and where it stands, is for the market to say.
      if (message.type === 'gpus' && this.#merge(message.gpus, message.removed)) again.ask()
    })
    return () => {
      again.stop()
      stopQuery()
      stopLive()
    }
  }

  /** Whether there are some that are not shown. */
  #merge(changed: Gpu[], removed: string[]): boolean {
    const shown = this.query.data
    if (!shown) return false
    const news = new Map(changed.map((gpu) => [gpu.id, gpu]))
    const gone = new Set(removed)
    this.query.data = shown.filter(({ id }) => !gone.has(id)).map((gpu) => news.get(gpu.id) ?? gpu)
    for (const { id } of shown) news.delete(id)
    return news.size > 0
  }
}

export function groupByModel(gpus: readonly Gpu[]): ModelGroup[] {
  const groups = new Map<string, ModelGroup>()
  for (const gpu of gpus) {
    const price = orb(gpu.price_per_hour)
    const group = groups.get(gpu.model) ?? {
      model: gpu.model,
      vramGb: gpu.vram_gb,
      count: 0,
      free: 0,
      low: price,
      high: price,
    }
    group.count++
    if (gpu.status === 'available') group.free++
    group.low = Math.min(group.low, price)
    group.high = Math.max(group.high, price)
    group.vramGb = Math.max(group.vramGb, gpu.vram_gb)
    groups.set(gpu.model, group)
  }
  return [...groups.values()].sort((a, b) => b.free - a.free || b.count - a.count || a.low - b.low)
}

/** The share of its tasks that ended without a fault of the provider's; null: it has had none yet. */
export function reliability(gpu: Pick<Gpu, 'tasks_completed' | 'tasks_failed'>): number | null {
  const all = gpu.tasks_completed + gpu.tasks_failed
  return all === 0 ? null : gpu.tasks_completed / all
}

const taskTypes = ['text_generation', 'image_generation', 'embedding', 'model_training', 'container', 'other'] as const
const sorts = ['price', '-price', '-vram', 'vram', '-created'] as const

/** The filters that a page's address holds. What does not fit is left out. */
export function filtersOfUrl(params: URLSearchParams): GpuFilters {
  const taskType = taskTypes.find((type) => type === params.get('task_type'))
  const sort = sorts.find((one) => one === params.get('sort'))
  const [minVram, maxPrice] = [Number(params.get('min_vram')), params.get('max_price') ?? '']
  return {
    ...(params.get('model') && { model: params.get('model')! }),
    ...(minVram > 0 && { min_vram: minVram }),
    ...(/^\d{1,9}(\.\d{1,6})?$/.test(maxPrice) && { max_price: maxPrice }),
    ...(taskType && { task_type: taskType }),
    ...(params.get('region') && { region: params.get('region')! }),
    ...(params.get('available') === 'true' && { available: true }),
    ...(sort && { sort }),
  }
}
