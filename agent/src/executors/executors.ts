import type { Clock } from '../clock.ts'
import type { Environment } from '../engines/engine-environment.ts'
import type { ReadVram } from '../gpus/nvidia-processes.ts'
import type { Storage } from '../outside.ts'
import { createEnginePool } from '../engines/engine-pool.ts'
import { engineEntry } from '../engines/engine-process.ts'
import { createEmbeddingExecutor } from './embedding-executor.ts'
import type { Executor } from './executor.ts'
import { createFakeExecutor } from './fake-executor.ts'
import { createLlamaExecutor } from './llama-executor.ts'
import { createOnnxExecutor } from './onnx-executor.ts'
import { createOpenaiExecutor } from './openai-executor.ts'

export type ExecutorsOptions = {
  /** Also the executor that only pretends, for development. */
  readonly withFake: boolean
  /** A server with the OpenAI API that the owner runs; null: there is none. */
  readonly openai: { readonly baseUrl: string; readonly apiKey: string | null } | null
  /** Where this machine's engines are installed; null: they are found beside the agent's own code. */
  readonly enginesFolder: string | null
  /** The agent's own environment; an engine sees a small part of it. */
  readonly environment: Environment
  readonly clock: Clock
  readonly readVram: ReadVram
  readonly storage: Storage
  /** See gpu-rehearsals.ts. */
  readonly processSpace: string | null
  readonly fetch: typeof fetch
  /** A random number from 0 to 2³² - 1. */
  newSeed(): number
  /** What engines print, line by line. */
  log(line: string): void
}

/**
 * All executors of this agent, in the order in which they are asked: the owner's own server comes first, because it was
 * set up on purpose.
 */
export function createExecutors(options: ExecutorsOptions): Executor[] {
  const { clock, fetch, newSeed, openai } = options
  const enginesOf = (name: string) => createEnginePool({ ...options, entry: engineEntry(name) })
  return [
    ...(openai === null ? [] : [createOpenaiExecutor({ ...openai, fetch, clock, newSeed })]),
    createLlamaExecutor({ ...options, engines: enginesOf('llama-engine') }),
    createOnnxExecutor({ engines: enginesOf('onnx-engine'), newSeed }),
    createEmbeddingExecutor({ clock }),
    ...(options.withFake ? [createFakeExecutor({ clock })] : []),
  ]
}
