import { fileURLToPath } from 'node:url'
import { createEnginePool, type EnginePool } from '../engines/engine-pool.ts'
import { engineEntry } from '../engines/engine-process.ts'
import type { ReadVram } from '../gpus/nvidia-processes.ts'
import type { Storage } from '../outside.ts'
import { systemClock } from '../system-clock.ts'
import type { LocalModel } from './executor.ts'

const models = new URL('../../../models/', import.meta.url)
const pathOf = (path: string) => fileURLToPath(new URL(path, models))

/** The small models of the checkout, for tests. */
export const tinylm: LocalModel = {
  name: 'tinylm',
  format: 'gguf',
  files: { weights: pathOf('tinylm/tinylm-q8_0.gguf') },
  promptStyle: 'qa',
  contextTokens: 256,
}

export const tinyimg: LocalModel = {
  name: 'tinyimg',
  format: 'tinyimg-onnx',
  files: {
    weights: pathOf('tinyimg/tinyimg.onnx'),
    vocabulary: pathOf('tinyimg/vocab.json'),
    upscaler: pathOf('upscale/esrgan-slim-x4.onnx'),
  },
  promptStyle: null,
  contextTokens: null,
}

export const wordvec: LocalModel = {
  name: 'wordvec-100',
  format: 'wordvec',
  files: { vectors: pathOf('wordvec/wordvec-100-40k.bin'), words: pathOf('wordvec/wordvec-100-40k.words') },
  promptStyle: null,
  contextTokens: null,
}

/** Real engines of this checkout, or the one that only obeys. */
export function enginesForTest(
  name: 'llama-engine' | 'onnx-engine' | 'fixture-engine',
  readVram: ReadVram = async () => new Map(),
): EnginePool {
  return createEnginePool({
    entry: engineEntry(name),
    enginesFolder: null,
    environment: process.env,
    clock: systemClock,
    readVram,
    log: () => {},
  })
}

/** Files in memory. */
export function storageForTest(): Storage {
  const files = new Map<string, string>()
  return {
    read: async (name) => files.get(name) ?? null,
    write: async (name, text) => void files.set(name, text),
    remove: async (name) => void files.delete(name),
    list: async () => [],
  }
}
