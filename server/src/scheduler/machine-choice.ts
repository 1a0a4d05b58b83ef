import { type Micros, priceTogether } from '@orbyte/protocol'
import type { MarketGpu } from '../gpus/gpu-registry.ts'
import type { GpuIndex } from './gpu-index.ts'
import type { Wanted } from './matching.ts'
import { isLargeEnough, isPassedOver } from './rankers.ts'

/** What a task asks for, now. */
export type Asked = { readonly wanted: Wanted; readonly nowMs: number }

/** Whether every GPU of a profile that fits will do, but for its price. */
export function isEachTheSame({ failedGpus, requirements }: Wanted): boolean {
  const { min_cpu_cores: cores, min_ram_gb: ramGb, min_storage_gb: storageGb } = requirements
  return failedGpus.size === 0 && (cores ?? ramGb ?? storageGb) === undefined
}

/** For what is particular to one GPU, but for its price. */
export function willDo(gpu: MarketGpu, { wanted, nowMs }: Asked): boolean {
  return (wanted.failedGpus.size === 0 || !isPassedOver(wanted, gpu.id, nowMs)) && isLargeEnough(wanted, gpu)
}

/** The cheapest of the machine's GPUs that will do; where they would be too dear together, those with the lowest prices. */
export function cheapestOn(machine: number, index: GpuIndex, asked: Asked): number[] | null {
  const { gpus, maxPriceMicrosPerHour: max } = asked.wanted
  const { price } = index.table
  const isPlain = isEachTheSame(asked.wanted)
  const all: number[] = []
  for (const gpu of index.machine(machine).gpus)
    if (index.isWhole(gpu) && (isPlain || willDo(index.gpu(gpu), asked))) all.push(gpu)
  if (all.length < gpus) return null
  const cheapest = all.slice(0, gpus)
  if (max === null || priceOfAll(cheapest, index) <= max) return cheapest
  const lowest = all.sort((a, b) => price[a]! - price[b]!).slice(0, gpus)
  return priceOfAll(lowest, index) <= max ? lowest : null
}

export function costTogether(gpus: readonly number[], { table }: GpuIndex): number {
  let sum = 0
  for (const gpu of gpus) sum += table.cost[gpu]!
  return sum
}

export const priceOfAll = (gpus: readonly number[], { table }: GpuIndex): Micros =>
  priceTogether(gpus.map((gpu) => table.price[gpu]!))
