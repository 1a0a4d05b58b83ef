import type { EnginePool } from '../engines/engine-pool.ts'
import type { LlamaParams } from '../engines/llama-engine.ts'
import { AttemptError, type Executor } from './executor.ts'

/** Text generation with GGUF models, by llama.cpp in a child process for each device. */
export function createLlamaExecutor({ engines }: { readonly engines: EnginePool }): Executor {
  return {
    name: 'llama',
    taskTypes: ['text_generation'],
    modelFormats: ['gguf'],
    check: () => engines.problem(),
    async run(attempt, report, signal) {
      const { input, model, device } = attempt
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
        onGpu: device.kind === 'gpu',
      }
      return await engines.engineOf(device).run({ params, report, signal, attempt })
    },
    close: () => engines.close(),
  }
}
