import type { GpuKind, Telemetry } from '@orbyte/protocol'

/** One way to find devices: a vendor's tool, the CPU, or the command line's emulated ones. */
export interface GpuDetector {
  readonly name: string
  /** The devices that are here now; none where the vendor's tool is not installed. Rejects when the tool is broken. */
  detect(): Promise<DetectedDevice[]>
  /** By the device's uuid. A device that says nothing is left out. */
  telemetry(): Promise<Map<string, Telemetry>>
}

export type DetectedDevice = {
  /** The same after every restart. */
  readonly uuid: string
  /** As the vendor's tool counts. */
  readonly index: number
  readonly kind: GpuKind
  readonly model: string
  readonly vramMib: number
  /** Of that, what the driver keeps for itself. Absent: it does not say. */
  readonly reservedMib?: number
  readonly driver: string | null
  readonly computeCapability: string | null
}

/** Runs a program. Null: it is not installed. Never rejects, and ends what takes too long. */
export type RunCommand = (command: string, args: readonly string[]) => Promise<CommandResult | null>
export type CommandResult = { readonly exitCode: number; readonly stdout: string; readonly stderr: string }

export const noTelemetry: Telemetry = {
  utilization_percent: null,
  vram_used_gb: null,
  temperature_celsius: null,
  power_watts: null,
}
