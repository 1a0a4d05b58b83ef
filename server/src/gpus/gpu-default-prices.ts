import { type GpuKind, type Micros, parseOrb } from '@orbyte/protocol'
import { normaliseGpuName } from './gpu-names.ts'

/**
 * Starting points for the price of a device whose owner has named none: ORB an hour. They follow what the rate cards of GPU
 * clouds asked in dollars in March 2026 (the community prices of RunPod; older cards by their distance to those), so that a
 * first offer is not absurd. The owner changes them, and the market decides.
 */
const startingPoints: readonly (readonly [model: string, orbPerHour: string])[] = [
  ['GTX 1660', '0.08'],
  ['RTX 2060', '0.10'],
  ['RTX 2080 Ti', '0.14'],
  ['RTX 3060', '0.12'],
  ['RTX 3070', '0.14'],
  ['RTX 3080', '0.17'],
  ['RTX 3080 Ti', '0.19'],
  ['RTX 3090', '0.22'],
  ['RTX 3090 Ti', '0.25'],
  ['RTX 4060', '0.14'],
  ['RTX 4060 Ti', '0.16'],
  ['RTX 4070', '0.18'],
  ['RTX 4070 Ti', '0.21'],
  ['RTX 4080', '0.27'],
  ['RTX 4080 Super', '0.29'],
  ['RTX 4090', '0.34'],
  ['RTX 5080', '0.39'],
  ['RTX 5090', '0.69'],
  ['RTX A4000', '0.19'],
  ['RTX A5000', '0.24'],
  ['RTX A6000', '0.37'],
  ['RTX 6000 Ada Generation', '0.69'],
  ['T4', '0.16'],
  ['V100-SXM2', '0.24'],
  ['A10', '0.35'],
  ['A40', '0.39'],
  ['L4', '0.44'],
  ['L40', '0.69'],
  ['L40S', '0.79'],
  ['A100 PCIe', '1.19'],
  ['A100-SXM4', '1.39'],
  ['H100 PCIe', '1.99'],
  ['H100', '2.69'],
  ['H200', '3.59'],
  ['B200', '5.98'],
  ['MI300X', '1.99'],
  ['RX 7900 XTX', '0.25'],
]
const anyCpu = parseOrb('0.10')
const anyGpu = parseOrb('0.40')

const byName = new Map(startingPoints.map(([model, orbPerHour]) => [normaliseGpuName(model), parseOrb(orbPerHour)]))

/** What to ask for a device whose owner has said nothing. An emulated GPU costs what it stands for. */
export function defaultPriceMicrosPerHour(kind: GpuKind, model: string): Micros {
  return kind === 'cpu' ? anyCpu : (byName.get(normaliseGpuName(model)) ?? anyGpu)
}
