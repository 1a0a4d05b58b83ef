import { z } from 'zod'
import { type GpuLibrary, gpuLibraryNames, librariesFor, libraryFailure } from '../engines/gpu-libraries.ts'
import type { DetectedDevice } from '../gpus/gpu-detector.ts'
import type { Storage } from '../outside.ts'
import { AttemptError } from './executor.ts'
import { Rehearsal } from './rehearsal.ts'

const fileName = 'rehearsals.json'
const Kept = z.record(z.string(), z.object({ circumstances: z.string(), rehearsal: Rehearsal }))
type Kept = z.output<typeof Kept>

export type GpuRehearsalsOptions = {
  readonly storage: Storage
  /** Name and version of what computes. */
  readonly engine: string
  /** Which processes this one sees, as the system calls it: a container may see others than its host. Null: all. */
  readonly processSpace: string | null
  /** Computes by this library, or rejects with why it does not. */
  rehearse(library: GpuLibrary, device: DetectedDevice): Promise<Pick<Rehearsal, 'tokensPerSecond' | 'vramMib'>>
}

/**
 * By which library an engine computes on each GPU. Each is tried, the better one first, until one computes. What came of it is kept on
 * disk, and holds as long as the GPU, its driver, the engine and the processes that can be seen are the same. A library that was missing
 * may have been installed since: it is tried again by the next agent. One that crashed takes another driver or another engine.
 */
export class GpuRehearsals {
  readonly #options: GpuRehearsalsOptions
  readonly #done = new Map<string, Kept[string]>()
  readonly #doubted = new Set<string>()
  #kept: Promise<Kept> | null = null

  constructor(options: GpuRehearsalsOptions) {
    this.#options = options
  }

  /** The library that an attempt on these GPUs uses; null: none is known to compute there. */
  libraryFor(deviceUuids: readonly string[]): GpuLibrary | null {
    const names = new Set(deviceUuids.map((uuid) => this.#done.get(uuid)?.rehearsal.computesBy ?? null))
    if (names.has(null)) return null
    // GPUs that differ have Vulkan in common.
    const name = names.size === 1 ? [...names][0] : gpuLibraryNames.vulkan
    return (Object.keys(gpuLibraryNames) as GpuLibrary[]).find((library) => gpuLibraryNames[library] === name) ?? null
  }

  /** What is known of these does not hold any more: they are tried again when they are next asked for. */
  doubt(deviceUuids: readonly string[]): void {
    for (const uuid of deviceUuids) this.#doubted.add(uuid)
  }

  /** `again`: whatever is known. */
  async of(device: DetectedDevice, { again }: { readonly again: boolean }): Promise<Rehearsal> {
    const { engine, processSpace } = this.#options
    const circumstances = JSON.stringify([device.model, device.driver, engine, processSpace])
    const isAnew = this.#doubted.delete(device.uuid) || again
    const known = isAnew ? undefined : (this.#done.get(device.uuid) ?? (await this.#recall(device.uuid)))
    const isKnown = known?.circumstances === circumstances && known.rehearsal.computesBy !== null
    const rehearsal = isKnown ? known.rehearsal : await this.#try(device)
    this.#done.set(device.uuid, { circumstances, rehearsal })
    if (!isKnown) await this.#keep()
    return rehearsal
  }

  async #try(device: DetectedDevice): Promise<Rehearsal> {
    const failures: Rehearsal['failures'] = []
    for (const library of librariesFor(device.uuid)) {
      const name = gpuLibraryNames[library]
      try {
        return { computesBy: name, ...(await this.#options.rehearse(library, device)), failures }
      } catch (error) {
        const code = error instanceof AttemptError ? error.code : 'engine_failed'
        const message = error instanceof Error ? error.message : String(error)
        failures.push({ ...libraryFailure(library, { code, message }), library: name })
      }
    }
    return { computesBy: null, tokensPerSecond: null, vramMib: null, failures }
  }

  async #recall(deviceUuid: string): Promise<Kept[string] | undefined> {
    const found = (await this.#read())[deviceUuid]
    const isSettled = found?.rehearsal.failures.every(({ code }) => code === 'engine_crashed')
    return isSettled ? found : undefined
  }

  async #read(): Promise<Kept> {
    this.#kept ??= this.#options.storage.read(fileName).then(
      (text) => Kept.catch({}).parse(text === null ? {} : parseJson(text)),
      () => ({}),
    )
    return await this.#kept
  }

  /** Where it cannot be written, the next agent tries again. */
  async #keep(): Promise<void> {
    const all = { ...(await this.#read()), ...Object.fromEntries(this.#done) }
    await this.#options.storage.write(fileName, JSON.stringify(all)).catch(() => {})
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return null
  }
}
