import type { Storage } from '@orbyte/agent/outside.ts'
import type { SeededRandom } from './seeded-random.ts'
import { never, type SimulatedProcess } from './simulated-process.ts'

/** How a machine's disk does at the moment. Whoever makes trouble changes it. */
export type MachineDiskHealth = { isFull: boolean; writeMsMax: number }
export const healthyMachineDisk: MachineDiskHealth = { isFull: false, writeMsMax: 8 }

/** The data folder of one machine: it outlives the agents that use it. */
export type MachineDisk = {
  readonly health: MachineDiskHealth
  /** The power is gone: what was written or removed and not made durable may be as it was before. */
  losePower(): void
  storageFor(process: SimulatedProcess): Storage
  /** Called before a file is removed. */
  onRemove(listen: (name: string, text: string) => void): void
}

/** `text` null: removed. `durable`: what is left of it after a power cut that takes the rest. */
type File = { text: string | null; durable: string | null }

const readMs = 1
const noSpace = () => Object.assign(new Error('no space left on device'), { code: 'ENOSPC' })

export function createMachineDisk(random: SeededRandom): MachineDisk {
  const health = { ...healthyMachineDisk }
  const files = new Map<string, File>()
  let removed: (name: string, text: string) => void = () => {}

  return {
    health,
    onRemove: (listen) => (removed = listen),
    losePower() {
      for (const [name, { text, durable }] of files) {
        // A file that was renamed into its place and never synced may also be found empty.
        const torn = text === null ? durable : ''
        const left = text === durable ? text : random.pick([text, durable, torn])!
        if (left === null) files.delete(name)
        else files.set(name, { text: left, durable: left })
      }
    },
    storageFor(process) {
      /** It takes its time, and the process may die before the disk does it, or before it hears that it was done. */
      async function access<T>(delayMs: number, work: () => T): Promise<T> {
        if (!process.crosses()) return never()
        await process.pause(delayMs)
        if (!process.crosses()) return never()
        const done = work()
        return process.crosses() ? done : never()
      }
      return {
        read: (name) => access(readMs, () => files.get(name)?.text ?? null),
        write: (name, text, { durable = false } = {}) =>
          access(random.integer(0, health.writeMsMax), () => {
            if (health.isFull) throw noSpace()
            files.set(name, { text, durable: durable ? text : (files.get(name)?.durable ?? null) })
          }),
        remove: (name) =>
          access(readMs, () => {
            const file = files.get(name)
            if (!file || file.text === null) return
            removed(name, file.text)
            files.set(name, { text: null, durable: file.durable })
          }),
        list: (folder) =>
          access(readMs, () =>
            [...files]
              .filter(([name, { text }]) => text !== null && name.startsWith(`${folder}/`))
              .map(([name]) => name.slice(folder.length + 1)),
          ),
      }
    },
  }
}
