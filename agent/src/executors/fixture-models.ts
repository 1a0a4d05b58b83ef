import { fileURLToPath } from 'node:url'
import { createEnginePool, type EnginePool } from '../engines/engine-pool.ts'
import { engineEntry } from '../engines/engine-process.ts'
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
export function enginesForTest(name: 'llama-engine' | 'onnx-engine' | 'fixture-engine'): EnginePool {
  return createEnginePool({
    entry: engineEntry(name),
    enginesFolder: null,
    environment: process.env,
    clock: systemClock,
    readVram: async () => new Map(),
    log: () => {},
  })
}
