import { z } from 'zod'
import type { Log, Storage } from '../outside.ts'

const fileName = 'paused.json'
const Paused = z.record(z.string(), z.enum(['drained', 'reclaimed']))
export type PauseReason = z.output<typeof Paused>[string]

/** Devices that their owner has taken back. Kept over restarts: a machine that reboots does not start to work again. */
export class Pauses {
  readonly #storage: Storage
  readonly #log: Log
  #paused: Record<string, PauseReason> = {}
  #written: Promise<void> = Promise.resolve()

  constructor({ storage, log }: { storage: Storage; log: Log }) {
    this.#storage = storage
    this.#log = log
  }

  async load(): Promise<void> {
    const text = await this.#storage.read(fileName)
    if (text === null) return
    try {
      this.#paused = Paused.parse(JSON.parse(text))
    } catch {
      this.#log.warn(`${fileName} cannot be read: nothing is paused.`)
    }
  }

  reasonOf(deviceUuid: string): PauseReason | null {
    return this.#paused[deviceUuid] ?? null
  }

  /** Holds at once. Rejects where it could not be kept for the next agent process too. */
  async pause(deviceUuids: readonly string[], reason: PauseReason): Promise<void> {
    for (const uuid of deviceUuids) this.#paused[uuid] = reason
    await this.#write()
  }

  /** Holds at once. Rejects where it could not be kept for the next agent process too. */
  async resume(deviceUuids: readonly string[]): Promise<void> {
    for (const uuid of deviceUuids) delete this.#paused[uuid]
    await this.#write()
  }

  async #write(): Promise<void> {
    const text = JSON.stringify(this.#paused)
    const written = this.#written.then(() => this.#storage.write(fileName, text, { durable: true }))
    this.#written = written.catch(() => {})
    await written.catch((error: unknown) => {
      const message = `It is so now, but it cannot be kept in ${fileName} (${error instanceof Error ? error.message : String(error)}), so that a restart of the agent undoes it. Make room on the disk, then say it again.`
      this.#log.error(message)
      throw new Error(message)
    })
  }
}
