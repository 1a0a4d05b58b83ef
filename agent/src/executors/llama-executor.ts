import type { EnginePool } from '../engines/engine-pool.ts'
import type { LlamaParams } from '../engines/llama-engine.ts'
import { AttemptError, type AttemptInput, type AttemptReport, type Executor } from './executor.ts'

export type LlamaExecutorOptions = {
  readonly engines: EnginePool
  /** What the owner of the machine should know. */
  warn(message: string): void
}

/** Text generation with GGUF models, by llama.cpp in child processes, which spread a model over all GPUs that they see. */
export function createLlamaExecutor({ engines, warn }: LlamaExecutorOptions): Executor {
  let gpuDevice: 'gpu' | 'vulkan' = 'gpu'

  /**
   * A build of llama.cpp for CUDA has machine code for some GPUs and PTX for the others, which a driver older than the build's
   * toolkit cannot translate: the first kernel then ends the process. Vulkan needs nothing of the kind.
   */
  async function runOnGpu(attempt: AttemptInput, report: AttemptReport, signal: AbortSignal) {
    const runOn = (device: LlamaParams['device'], onReady: () => void) => {
      const ready = () => {
        onReady()
        report.ready()
      }
      return engines.run(attempt, { params: paramsOf(attempt, device), report: { ...report, ready }, signal })
    }
    let isReady = false
    try {
      return await runOn(gpuDevice, () => (isReady = true))
    } catch (error) {
      const hasCrashed = error instanceof AttemptError && error.code === 'engine_crashed'
      if (!hasCrashed || isReady || gpuDevice === 'vulkan') throw error
      const output = runOn('vulkan', () => {
        if (gpuDevice === 'gpu')
          warn(`llama.cpp computes by Vulkan from now on. A newer driver may help. ${error.message}`)
        gpuDevice = 'vulkan'
      })
      // Where Vulkan does not work either, the crash is what is wrong.
      return await output.catch((second: unknown) => {
        throw gpuDevice === 'vulkan' ? second : error
      })
    }
  }

  return {
    name: 'llama',
    taskTypes: ['text_generation'],
    modelFormats: ['gguf'],
    several: true,
    shares: true,
    check: () => engines.problem(),
    async run(attempt, report, signal) {
      if (attempt.devices[0]!.kind === 'gpu') return await runOnGpu(attempt, report, signal)
      return await engines.run(attempt, { params: paramsOf(attempt, 'cpu'), report, signal })
    },
    free: (deviceUuid) => engines.free(deviceUuid),
    close: () => engines.close(),
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
  }
}
