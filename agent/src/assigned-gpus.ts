import { formatOrb, type ServerMessageOf } from '@orbyte/protocol'
import type { DetectedDevice } from './gpus/gpu-detector.ts'
import type { Log } from './outside.ts'

export type AssignedGpu = ServerMessageOf<'gpus'>['gpus'][number]

/** Which of the market's GPUs the devices here are. */
export class AssignedGpus {
  readonly #log: Log
  #gpus = new Map<string, AssignedGpu>()

  constructor(log: Log) {
    this.#log = log
  }

  of(deviceUuid: string): AssignedGpu | null {
    return this.#gpus.get(deviceUuid) ?? null
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
    if (before?.name === gpu.name && before.price_per_hour === gpu.price_per_hour) return
    this.#log.info(`${gpu.name} (${gpu.gpu_id}) is offered at ${formatOrb(gpu.price_per_hour)} ORB an hour.`)
  }
}
