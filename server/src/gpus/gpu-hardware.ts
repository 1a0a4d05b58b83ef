import type { ReportedDevice } from '@orbyte/protocol'
import { normaliseGpuName } from './gpu-names.ts'

/** How far the VRAM that was typed in may be from what the driver reports: 24 GB cards report 23.99 GiB, 16 GB cards 15.6. */
const vramTolerance = 0.05

export function isSameVram(registeredGb: number, detectedGb: number): boolean {
  return Math.abs(registeredGb - detectedGb) <= vramTolerance * detectedGb
}

/** GiB with two decimals, as the API says it. */
export function gibFromMib(mib: number): number {
  return Math.max(0.01, Math.round((mib / 1_024) * 100) / 100)
}

/**
 * Whether people call it a GPU of so many GB. They mean what it is sold as, 10⁹ bytes each: drivers say 23.99 GiB of an RTX 4090, and
 * 22.49 of an L4, which gives a sixteenth to error correction. Both are sold as 24 GB.
 */
export function isSoldAs(vramGb: number, soldGb: number): boolean {
  return vramGb * 2 ** 30 >= soldGb * 10 ** 9
}

/** GiB in steps of a tenth, so that GPUs which differ by their drivers only count as alike. Never more than there is. */
export function usableGb(device: Pick<ReportedDevice, 'vram_mib' | 'usable_vram_mib'>): number {
  const vramGb = gibFromMib(device.vram_mib)
  if (device.usable_vram_mib === null) return vramGb
  return Math.min(vramGb, Math.max(0.1, Math.floor((device.usable_vram_mib / 1_024) * 10) / 10))
}

/** GiB that each process takes beside its task, rounded up. */
export function processGb({ process_vram_mib }: Pick<ReportedDevice, 'process_vram_mib'>): number {
  return Math.ceil((process_vram_mib / 1_024) * 100) / 100
}

type Hardware = { readonly model: string; readonly vramGb: number }

/** Sentences on what was registered and is not so. A size counts as equal if it is, at the decimals that were registered. */
export function describeDifferences(registered: Hardware, detected: Hardware): string[] {
  const differences: string[] = []
  if (normaliseGpuName(registered.model) !== normaliseGpuName(detected.model))
    differences.push(`registered as ${registered.model}, detected ${detected.model}`)
  const decimals = Math.min(String(registered.vramGb).split('.')[1]?.length ?? 0, 2)
  if (registered.vramGb.toFixed(decimals) !== detected.vramGb.toFixed(decimals))
    differences.push(`registered as ${registered.vramGb} GiB, detected ${detected.vramGb} GiB`)
  return differences
}
