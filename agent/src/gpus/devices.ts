import type { Telemetry } from '@orbyte/protocol'
import type { Log } from '../outside.ts'
import type { DetectedDevice, GpuDetector } from './gpu-detector.ts'

const devicesMax = 256

/** The devices of this machine, as the detectors saw them last. */
export class Devices {
  readonly #detectors: readonly GpuDetector[]
  readonly #log: Log
  readonly #found = new Map<GpuDetector, readonly DetectedDevice[]>()
  readonly #problems = new Map<GpuDetector, string>()

  constructor({ detectors, log }: { detectors: readonly GpuDetector[]; log: Log }) {
    this.#detectors = detectors
    this.#log = log
  }

  /** A detector that fails keeps nothing: what its driver cannot see cannot run a task. */
  async refresh(): Promise<void> {
    await Promise.all(this.#detectors.map((detector) => this.#refreshOne(detector)))
  }

  all(): DetectedDevice[] {
    return [...this.#found.values()].flat().slice(0, devicesMax)
  }

  find(uuid: string): DetectedDevice | null {
    return this.all().find((device) => device.uuid === uuid) ?? null
  }

  /** What is wrong with the machine's drivers, for a person. */
  problems(): string[] {
    return [...this.#problems.values()]
  }

  async telemetry(): Promise<Map<string, Telemetry>> {
    const detectors = this.#detectors.filter((detector) => (this.#found.get(detector) ?? []).length > 0)
    const all = await Promise.all(detectors.map((detector) => detector.telemetry().catch(() => new Map())))
    return new Map(all.flatMap((some) => [...some]))
  }

  async #refreshOne(detector: GpuDetector): Promise<void> {
    try {
      this.#found.set(detector, await detector.detect())
      this.#problems.delete(detector)
    } catch (error) {
      const problem = `${detector.name}: ${error instanceof Error ? error.message : String(error)}`
      if (this.#problems.get(detector) !== problem) this.#log.warn(problem)
      this.#problems.set(detector, problem)
      this.#found.set(detector, [])
    }
  }
}
