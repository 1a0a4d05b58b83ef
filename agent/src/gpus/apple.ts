import { z } from 'zod'
import { type DetectedDevice, type GpuDetector, type RunCommand } from './gpu-detector.ts'

const Report = z.object({
  SPDisplaysDataType: z
    .array(
      z.object({
        _name: z.string().optional(),
        sppci_model: z.string().optional(),
        spdisplays_vendor: z.string().optional(),
        spdisplays_mtlgpufamilysupport: z.string().optional(),
      }),
    )
    .default([]),
  SPHardwareDataType: z
    .array(z.object({ platform_UUID: z.string().optional(), physical_memory: z.string().optional() }))
    .default([]),
})

/** The GPU of an Apple chip by system_profiler. It has no telemetry that an ordinary user may read. */
export function createAppleDetector({ run }: { readonly run: RunCommand }): GpuDetector {
  return {
    name: 'Apple',
    async detect() {
      const result = await run('system_profiler', ['SPDisplaysDataType', 'SPHardwareDataType', '-json'])
      return result === null || result.exitCode !== 0 ? [] : parseSystemProfiler(result.stdout)
    },
    telemetry: async () => new Map(),
  }
}

export function parseSystemProfiler(text: string): DetectedDevice[] {
  const report = Report.parse(JSON.parse(text))
  const [hardware] = report.SPHardwareDataType
  const ramGb = gigabytesOf(hardware?.physical_memory)
  if (ramGb === null) return []
  return report.SPDisplaysDataType.flatMap((display, index) => {
    const model = display.sppci_model ?? display._name
    if (!/apple/i.test(display.spdisplays_vendor ?? '') || !model) return []
    return {
      uuid: `Apple-${hardware?.platform_UUID ?? 'unknown'}-${index}`,
      index,
      kind: 'gpu' as const,
      model: /^apple/i.test(model) ? model : `Apple ${model}`,
      vramMib: Math.floor(ramGb * metalShare(ramGb) * 1_024),
      driver: null,
      computeCapability: display.spdisplays_mtlgpufamilysupport?.replace(/^spdisplays_/, '') ?? null,
    }
  })
}

/** How much of the memory that all share Metal lets the GPU use (recommendedMaxWorkingSetSize). */
function metalShare(ramGb: number): number {
  return ramGb <= 36 ? 2 / 3 : 3 / 4
}

function gigabytesOf(text: string | undefined): number | null {
  const [, amount, unit] = /^([\d.]+)\s*(GB|TB)$/i.exec(text ?? '') ?? []
  return amount === undefined ? null : Number(amount) * (unit?.toUpperCase() === 'TB' ? 1_024 : 1)
}
