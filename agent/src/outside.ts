import type { MonotonicClock } from './clock.ts'
import type { Executor } from './executors/executor.ts'
import type { GpuDetector } from './gpus/gpu-detector.ts'
import type { ModelCache } from './model-cache/model-cache.ts'

/**
 * All that the agent has from outside of itself: time, chance, network, storage, the machine. The `system-*.ts` files are
 * the production ones; a test or a simulation brings its own.
 */
export type Outside = {
  readonly clock: MonotonicClock
  readonly random: Random
  readonly log: Log
  readonly network: Network
  readonly storage: Storage
  readonly machine: Machine
  readonly executors: readonly Executor[]
  readonly models: ModelCache
  /** Made with the agent's fingerprint, for devices that have no identity of their own. */
  readonly detectors: (fingerprint: string) => readonly GpuDetector[]
  /** The agent's own version. */
  readonly version: string
}

export type Random = {
  /** Cryptographically strong in production, seeded in a simulation. */
  bytes(count: number): Uint8Array
}

export type Log = {
  debug(message: string): void
  info(message: string): void
  warn(message: string): void
  error(message: string): void
}

/** Opens the one connection that the agent has. Nothing ever connects to the agent. */
export type Network = {
  connect(url: string, listener: SocketListener): Socket
}

export type Socket = {
  send(text: string): void
  /** Says goodbye; `closed` follows. */
  close(reason: string): void
  /** Hangs up without waiting for anybody; `closed` follows. */
  terminate(): void
}

/** Called after `connect` has returned: `message` any number of times, then `closed` once, and nothing after it. */
export type SocketListener = {
  message(text: string): void
  /** Why it closed, or why it never opened, for a person. */
  closed(reason: string): void
}

/** Small files in the agent's data folder, by names like "identity.pem" and "results/att_1.json". */
export type Storage = {
  /** Null: there is no such file. */
  read(name: string): Promise<string | null>
  /**
   * Replaces the whole file or nothing of it. A durable one has reached the disk when the promise resolves. One that a crash cut
   * off may leave a file beside it whose name ends in ".part".
   */
  write(name: string, text: string, options?: { readonly durable?: boolean }): Promise<void>
  remove(name: string): Promise<void>
  /** The names of the files in a folder, without the folder; none where there is no such folder. */
  list(folder: string): Promise<string[]>
}

export type Machine = {
  readonly hostname: string
  readonly os: string
  readonly cpuModel: string
  readonly cpuCores: number
  readonly ramBytes: number
  /** Free space where the data folder is; null: not known. */
  diskFreeBytes(): Promise<number | null>
}
