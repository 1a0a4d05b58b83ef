import { z } from 'zod'
import type { Storage } from '../outside.ts'

const fileName = 'cached-models.json'
/** Each device names them in a hello, and a hello is one message. */
const namesMax = 200
const Names = z.array(z.string())

/** Which catalogue models this machine has at hand, so that the market can prefer it for them. A hint, no promise. */
export class ModelMemory {
  readonly #storage: Storage
  /** The one that each device ran last: its engine is kept warm. */
  readonly #loaded = new Map<string, string>()
  #cached: string[] = []

  constructor(storage: Storage) {
    this.#storage = storage
  }

  async load(): Promise<void> {
    const text = await this.#storage.read(fileName).catch(() => null)
    try {
      this.#cached = Names.parse(JSON.parse(text ?? '[]'))
    } catch {
      this.#cached = []
    }
  }

  loadedOn(deviceUuid: string): string[] {
    const name = this.#loaded.get(deviceUuid)
    return name === undefined ? [] : [name]
  }

  cached(): string[] {
    return this.#cached
  }

  ran(deviceUuid: string, modelName: string): void {
    this.#loaded.set(deviceUuid, modelName)
    if (this.#cached.includes(modelName)) return
    this.#cached = [...this.#cached, modelName].slice(-namesMax)
    // When it cannot be written, the market hears of the model again after its next use.
    this.#storage.write(fileName, JSON.stringify(this.#cached)).catch(() => {})
  }

  unloaded(deviceUuid: string): void {
    this.#loaded.delete(deviceUuid)
  }
}
