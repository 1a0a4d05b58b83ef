import type { TaskType } from '@orbyte/protocol'
import type { DetectedDevice } from '../gpus/gpu-detector.ts'
import type { Rehearsal } from './rehearsal.ts'

/**
 * How an agent runs an attempt.
 *
 * An executor is one way to do work on one machine: a model engine, a server that the owner already runs, a container
 * runtime. The agent asks `check` at start which executors work here, tells the market what they can do, and hands each
 * attempt to the executor that claimed its task type. To add one: write one file that implements this interface, list it in
 * `executors.ts`, and call `executorSuite` on it in a test.
 *
 * The life of an attempt, as the executor sees it:
 *  1. `run` is called with the validated input and, where the task needs one, a model that is already on this disk.
 *  2. It prepares (starts an engine, loads weights) and may report `preparing`. Nothing is charged for this.
 *  3. It calls `report.ready()` exactly once, at the moment the work itself starts. The meter starts here.
 *  4. It reports output as it is produced, files as they are finished, and log lines.
 *  5. It resolves with the output data, or rejects with an `AttemptError` that says whose fault it was.
 *
 * What it must hold to:
 *  - When `signal` aborts it stops the work within two seconds and rejects; what it reports afterwards is ignored.
 *  - A native engine lives in a child process that the executor keeps warm: a crash in it rejects the attempt with
 *    `engine_crashed` and leaves the agent standing. The next attempt starts the engine again.
 *  - It keeps nothing of a task's input or output once `run` has ended.
 *  - Attempts run at the same time on different GPUs, and on shares of one. Each that has several GPUs, or a share, runs in a
 *    process of its own: no two renters' data are ever in one, and nothing that is kept warm is in their way.
 */
export interface Executor {
  readonly name: string
  readonly taskTypes: readonly TaskType[]
  /** Whether this executor can load a model of this format ("gguf", "onnx-diffusion", …); null: it needs no model file. */
  readonly modelFormats: readonly string[] | null
  /** Whether it can use several GPUs of this machine for one attempt. */
  readonly several: boolean
  /** Whether it can run attempts on shares of a GPU: see above. */
  readonly shares: boolean
  /** Why it cannot run on this machine now, or null if it can. Called at start and by `orbyte agent doctor`. */
  check(): Promise<ExecutorProblem | null>
  /**
   * Computes a little on a GPU of this machine, as an attempt would, and says what came of it; never rejects. The agent asks before it
   * offers the GPU, and gives it nothing to run there where nothing computes. May remember: with `again` it does not. Absent: it needs no GPU.
   */
  rehearse?(device: DetectedDevice, options: { readonly again: boolean }): Promise<Rehearsal>
  /** Names of the models that it brings itself (a server that the owner runs has its own). Absent: it brings none. */
  models?(): Promise<string[]>
  run(attempt: AttemptInput, report: AttemptReport, signal: AbortSignal): Promise<Record<string, unknown>>
  /** Frees what is kept warm on a device, because its owner has it back. Absent: nothing is kept there. */
  free?(deviceUuid: string): Promise<void>
  /** Stops child processes and frees what is kept warm. */
  close(): Promise<void>
}

export type ExecutorProblem = {
  /** What is missing, for a person. */
  readonly message: string
  /** What to do about it, for a person: a command where there is one. */
  readonly remedy: string
}

export type AttemptInput = {
  readonly attemptId: string
  readonly taskType: TaskType
  /** Already parsed by the task type's schema: defaults are filled in. */
  readonly input: Record<string, unknown>
  readonly model: LocalModel | null
  /** One or several whole ones, or a share of one. */
  readonly devices: readonly ExecutorDevice[]
  readonly durationMsMax: number
  /**
   * Milliseconds until this attempt must have stopped, as last renewed by the market. A child process asks every few
   * seconds, so that its work ends in time even when the agent is frozen. Absent: `durationMsMax` from the start.
   */
  readonly remainingMs?: () => number
}

/** A GPU (or CPU) that was rented for the attempt, or a share of it. */
export type ExecutorDevice = {
  readonly uuid: string
  readonly kind: 'gpu' | 'cpu' | 'emulated'
  readonly index: number
  /** Thousandths of its time. */
  readonly milli: number
  /** MiB that may be used, where it is a share; null: all. */
  readonly vramMib: number | null
}

/** What an attempt has of the machine. */
export type Use = 'whole' | 'several' | 'shares'

export function useOf(devices: readonly Pick<ExecutorDevice, 'vramMib'>[]): Use {
  if (devices.length > 1) return 'several'
  return devices.some(({ vramMib }) => vramMib !== null) ? 'shares' : 'whole'
}

/** A model that the cache has fetched and checked. */
export type LocalModel = {
  readonly name: string
  readonly format: string
  /** The catalogue's file names, each with an absolute path. */
  readonly files: Readonly<Record<string, string>>
  /** How a conversation becomes a prompt: lines of "Q: …" and "A: …", or the chat template inside the model file. */
  readonly promptStyle: 'qa' | 'chat_template' | null
  /** The longest context that the model was trained for; null: read it from the file, or there is none. */
  readonly contextTokens: number | null
}

export type AttemptReport = {
  /** Progress before ready. `fraction` from 0 to 1, or null where it is not known. */
  preparing(phase: 'load', fraction: number | null): void
  ready(): void
  /** Text for whoever watches, in order, as it is produced. */
  output(text: string): void
  /** One line of a log, at most 16 KB; longer ones are cut. */
  log(line: string): void
  /** A finished file of the output. Names are unique within the attempt. */
  file(file: OutputFile): void
}

export type OutputFile = { readonly name: string; readonly mimeType: string; readonly bytes: Uint8Array }

/**
 * Whose fault a failure was decides who pays: the renter's work ("renter") is charged for the time it ran, the provider's
 * machine or engine ("provider") is not charged and the task is tried elsewhere.
 */
export class AttemptError extends Error {
  readonly code: string
  readonly fault: 'renter' | 'provider'
  constructor(code: string, message: string, fault: 'renter' | 'provider') {
    super(message)
    this.name = 'AttemptError'
    this.code = code
    this.fault = fault
  }
}
