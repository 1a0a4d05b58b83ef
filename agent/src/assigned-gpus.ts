import { formatOrb, type ServerMessageOf } from '@orbyte/protocol'
import type { DetectedDevice } from './gpus/gpu-detector.ts'
import { elapsedMsAtLeast, type Moment, momentNow, type MonotonicClock } from './clock.ts'
import type { Log } from './outside.ts'

export type AssignedGpu = ServerMessageOf<'gpus'>['gpus'][number]

/** Which of the market's GPUs the devices here are. */
export class AssignedGpus {
  readonly #log: Log
  readonly #clock: MonotonicClock
  #gpus = new Map<string, AssignedGpu>()
  /** When the market last said something of it. */
  readonly #toldAt = new Map<string, Moment>()

  constructor({ log, clock }: { log: Log; clock: MonotonicClock }) {
    this.#log = log
    this.#clock = clock
  }

  of(deviceUuid: string): AssignedGpu | null {
    return this.#gpus.get(deviceUuid) ?? null
  }

  /** How long the market goes on offering nothing to it; 0: it does. */
  coolDownMs(deviceUuid: string): number {
    const told = this.#toldAt.get(deviceUuid)
    const cooling = this.of(deviceUuid)?.cool_down_ms ?? 0
    return told === undefined ? 0 : Math.max(0, cooling - elapsedMsAtLeast(this.#clock, told))
  }

  /** The welcome names all of them. */
  replace(gpus: readonly AssignedGpu[]): void {
    const before = this.#gpus
    this.#gpus = new Map(gpus.map((gpu) => [gpu.uuid, gpu]))
    for (const gpu of gpus) this.#tell(gpu, before.get(gpu.uuid))
  }

  /** Later messages name those that have changed. */
  update(gpus: readonly AssignedGpu[]): void {
    for (const gpu of gpus) {
      this.#tell(gpu, this.#gpus.get(gpu.uuid))
      this.#gpus.set(gpu.uuid, gpu)
    }
  }

  /** The uuids of the devices that an owner means: by number, uuid, id or name; null: all. */
  meant(devices: readonly DetectedDevice[], gpu: string | null): string[] {
    if (gpu === null) return devices.map(({ uuid }) => uuid)
    const isMeant = ({ uuid }: DetectedDevice, place: number) => {
      const assigned = this.of(uuid)
      return [String(place), uuid, assigned?.gpu_id, assigned?.name].includes(gpu)
    }
    const meant = devices.filter(isMeant)
    if (meant.length > 0) return meant.map(({ uuid }) => uuid)
    const known = devices.map(({ uuid, model }, place) => `${place} (${this.of(uuid)?.name ?? model})`)
    throw new Error(`There is no GPU "${gpu}" here. There is: ${known.join(', ')}.`)
  }

  #tell(gpu: AssignedGpu, before: AssignedGpu | undefined): void {
    this.#toldAt.set(gpu.uuid, momentNow(this.#clock))
    if (gpu.cool_down_ms > 0) {
      const seconds = Math.ceil(gpu.cool_down_ms / 1_000)
      this.#log.warn(`${gpu.name} has failed and cools down: the market offers it nothing for ${seconds} s.`)
    }
    if (before?.name === gpu.name && before.price_per_hour === gpu.price_per_hour) return
    this.#log.info(`${gpu.name} (${gpu.gpu_id}) is offered at ${formatOrb(gpu.price_per_hour)} ORB an hour.`)
  }
}
