import type { Machine } from '../outside.ts'
import type { GpuDetector } from './gpu-detector.ts'

export type CpuDetectorOptions = { readonly machine: Machine; readonly fingerprint: string }

/** The machine's CPU, offered as what it is: its RAM stands for VRAM. Only where the owner asked for it. */
export function createCpuDetector({ machine, fingerprint }: CpuDetectorOptions): GpuDetector {
  return {
    name: 'CPU',
    async detect() {
      return [
        {
          uuid: `CPU-${fingerprint}`,
          index: 0,
          kind: 'cpu',
          model: `CPU ${machine.cpuModel} (${machine.cpuCores} cores)`.slice(0, 200),
          vramMib: Math.floor(machine.ramBytes / 2 ** 20),
          driver: null,
          computeCapability: null,
        },
      ]
    },
    telemetry: async () => new Map(),
  }
}
