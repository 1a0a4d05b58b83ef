import type { Telemetry } from '@orbyte/protocol'
import type { GpuDetector } from './gpu-detector.ts'

/** One `--emulate`: "RTX 4090:24" or, for four of them, "RTX 4090:24x4". */
export type EmulatedGpu = { readonly model: string; readonly vramGb: number; readonly count: number }

export type EmulatedDetectorOptions = { readonly gpus: readonly EmulatedGpu[]; readonly fingerprint: string }

/** GPUs that are not there, for development; they say so everywhere. */
export function createEmulatedDetector({ gpus, fingerprint }: EmulatedDetectorOptions): GpuDetector {
  const devices = gpus
    .flatMap((gpu) => Array.from({ length: gpu.count }, () => gpu))
    .map(({ model, vramGb }, index) => ({
      uuid: `EMULATED-${fingerprint}-${index}`,
      index,
      kind: 'emulated' as const,
      model,
      vramMib: vramGb * 1_024,
      driver: null,
      computeCapability: null,
    }))
  const idle: Telemetry = { utilization_percent: 0, vram_used_gb: 0, temperature_celsius: null, power_watts: null }
  return {
    name: 'emulated',
    detect: async () => devices,
    telemetry: async () => new Map(devices.map(({ uuid }) => [uuid, idle])),
  }
}

export function parseEmulatedGpu(text: string): EmulatedGpu {
  const [, model, vramGb, count] = /^(.+):(\d+(?:\.\d+)?)(?:x(\d+))?$/.exec(text.trim()) ?? []
  const gpu = { model: model?.trim() ?? '', vramGb: Number(vramGb), count: Number(count ?? 1) }
  if (gpu.model !== '' && gpu.model.length <= 200 && gpu.vramGb > 0 && gpu.count >= 1 && gpu.count <= 256) return gpu
  throw new Error(`"${text}" describes no GPU: write its model and GiB of VRAM, like "RTX 4090:24" or "RTX 4090:24x4"`)
}
