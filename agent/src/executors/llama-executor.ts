import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { engineVersions } from '../engines/engine-packages.ts'
import type { EnginePool } from '../engines/engine-pool.ts'
import type { GpuLibrary } from '../engines/gpu-libraries.ts'
import type { LlamaParams } from '../engines/llama-engine.ts'
import { recited, rehearsalModel, rehearsalPrompt } from '../engines/rehearsal-model.ts'
import type { DetectedDevice } from '../gpus/gpu-detector.ts'
import type { Storage } from '../outside.ts'
import { AttemptError, type AttemptInput, type Executor } from './executor.ts'
import { GpuRehearsals } from './gpu-rehearsals.ts'

export type LlamaExecutorOptions = {
  readonly engines: EnginePool
  readonly storage: Storage
  /** See gpu-rehearsals.ts. */
  readonly processSpace: string | null
}

/** Text generation with GGUF models, by llama.cpp in child processes, which spread a model over all GPUs that they see. */
export function createLlamaExecutor({ engines, storage, processSpace }: LlamaExecutorOptions): Executor {
  const rehearsals = new GpuRehearsals({
    storage,
    engine: `node-llama-cpp ${engineVersions['node-llama-cpp']}`,
    processSpace,
    rehearse: (library, device) => rehearse(engines, library, device),
  })

  function computingOf({ devices }: AttemptInput): LlamaParams['device'] {
    if (devices[0]!.kind !== 'gpu') return 'cpu'
    const library = rehearsals.libraryFor(devices.map(({ uuid }) => uuid))
    if (library !== null) return library
    throw new AttemptError('engine_unavailable', 'llama.cpp has not been seen to compute on this GPU.', 'provider')
  }

  return {
    name: 'llama',
    taskTypes: ['text_generation'],
    modelFormats: ['gguf'],
    several: true,
    shares: true,
    check: () => engines.problem(),
    rehearse: (device, options) => rehearsals.of(device, options),
    async run(attempt, report, signal) {
      const params = paramsOf(attempt, computingOf(attempt))
      try {
        return await engines.run(attempt, { params, report, signal })
      } catch (error) {
        // A library that computed in its rehearsal and is not to be found now.
        if (error instanceof AttemptError && error.code === 'engine_unavailable')
          rehearsals.doubt(attempt.devices.map(({ uuid }) => uuid))
        throw error
      }
    },
    free: (deviceUuid) => engines.free(deviceUuid),
    close: () => engines.close(),
  }
}

const rehearsedTokens = 200

/**
 * A library may load and still not compute: a build of llama.cpp for CUDA has machine code for some GPUs and PTX for the others, which a
 * driver older than the build's toolkit cannot translate, and the first kernel then ends the process. So a model is run, to its end.
 */
async function rehearse(engines: EnginePool, library: GpuLibrary, { uuid, kind, index, model }: DetectedDevice) {
  const folder = await mkdtemp(join(tmpdir(), 'orbyte-rehearsal-'))
  try {
    const modelFile = join(folder, 'model.gguf')
    await writeFile(modelFile, rehearsalModel())
    const params: LlamaParams = {
      input: { prompt: rehearsalPrompt, max_tokens: rehearsedTokens, temperature: 0 },
      modelName: 'rehearsal',
      modelFile,
      promptStyle: 'chat_template',
      contextTokens: null,
      device: library,
      // Vulkan counts GPUs in its own way, and counts the processor where it can draw. Names are the same for NVIDIA's only.
      gpuName: library === 'vulkan' && uuid.startsWith('GPU-') ? model : null,
    }
    const device = { uuid, kind, index, milli: 1_000, vramMib: null }
    const { output, runMs, vramMib } = await engines.rehearse(device, params)
    if (output['text'] !== recited(rehearsedTokens)) {
      const message = 'It computes something else than the processor does.'
      throw new AttemptError('wrong_result', message, 'provider')
    }
    return { tokensPerSecond: Math.round((rehearsedTokens * 1_000) / Math.max(1, runMs)), vramMib }
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

function paramsOf({ input, model }: AttemptInput, device: LlamaParams['device']): LlamaParams {
  const modelFile = model?.files['weights']
  if (model === null || modelFile === undefined) {
    throw new AttemptError('model_unavailable', 'Text generation needs a model with a file "weights".', 'provider')
  }
  return {
    input: input as LlamaParams['input'],
    modelName: model.name,
    modelFile,
    promptStyle: model.promptStyle ?? 'chat_template',
    contextTokens: model.contextTokens,
    device,
    gpuName: null,
  }
}
