import type { Model } from '@orbyte/protocol'
import { reportedDevice } from '../gpus/fixture-gpus.ts'
import type { MarketGpu } from '../gpus/gpu-registry.ts'
import { GpuIndex } from './gpu-index.ts'
import { GpuSearch } from './gpu-search.ts'

/** A GPU, and how much of it is free. */
export type Placed = { readonly gpu: MarketGpu; readonly freeMilli: number }

export function searchAmong(gpus: readonly Placed[]) {
  const index = new GpuIndex()
  for (const { gpu, freeMilli } of gpus) index.put(gpu, { isThere: true, freeMilli })
  return { index, search: new GpuSearch(index) }
}

const bySize = new Map<number, MarketGpu['specs']>()
/** As in the registry: the same object until it is reported anew. */
export function specsWith(ramGb: number) {
  const specs = bySize.get(ramGb) ?? { ...reportedDevice().specs, ram_gb: ramGb }
  bySize.set(ramGb, specs)
  return specs
}

/** One that an executor loads. */
export const model = { name: 'm', format: 'gguf', vram_gb: 0.01, task_types: ['text_generation'] } as unknown as Model

/** Numbers from 0 to below 1, the same for the same seed. */
export function numbers(seed: number) {
  let state = seed
  return () => (state = (state * 16_807 + 11) % 2_147_483_647) / 2_147_483_647
}
