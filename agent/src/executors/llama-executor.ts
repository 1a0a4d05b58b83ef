import type { EnginePool } from '../engines/engine-pool.ts'
import type { LlamaParams } from '../engines/llama-engine.ts'
import { AttemptError, type Executor } from './executor.ts'

/** Text generation with GGUF models, by llama.cpp in child processes, which spread a model over all GPUs that they see. */
export function createLlamaExecutor({ engines }: { readonly engines: EnginePool }): Executor {
  return {
    name: 'llama',
    taskTypes: ['text_generation'],
    modelFormats: ['gguf'],
    several: true,
    shares: true,
    check: () => engines.problem(),
    async run(attempt, report, signal) {
      const { input, model, devices } = attempt
      const modelFile = model?.files['weights']
      if (model === null || modelFile === undefined) {
        throw new AttemptError('model_unavailable', 'Text generation needs a model with a file "weights".', 'provider')
      }
      const params: LlamaParams = {
        input: input as LlamaParams['input'],
        modelName: model.name,
        modelFile,
        promptStyle: model.promptStyle ?? 'chat_template',
        contextTokens: model.contextTokens,
        onGpu: devices[0]!.kind === 'gpu',
      }
      return await engines.run(attempt, { params, report, signal })
    },
    free: (deviceUuid) => engines.free(deviceUuid),
    close: () => engines.close(),
  }
}
