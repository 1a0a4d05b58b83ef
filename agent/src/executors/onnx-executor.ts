import type { EnginePool } from '../engines/engine-pool.ts'
import type { OnnxParams } from '../engines/onnx-engine.ts'
import { AttemptError, type Executor, type LocalModel } from './executor.ts'

export type OnnxExecutorOptions = {
  readonly engines: EnginePool
  /** A seed for an attempt whose renter named none: 0 to 2³² - 1. */
  newSeed(): number
}

/** Image generation with ONNX models, by ONNX Runtime in a child process for each device. Computes on the CPU. */
export function createOnnxExecutor({ engines, newSeed }: OnnxExecutorOptions): Executor {
  return {
    name: 'onnx',
    taskTypes: ['image_generation'],
    modelFormats: ['tinyimg-onnx'],
    several: false,
    shares: true,
    check: () => engines.problem(),
    async run(attempt, report, signal) {
      const { model } = attempt
      const input = attempt.input as OnnxParams['input']
      const params: OnnxParams = {
        input,
        modelName: model?.name ?? '',
        files: modelFiles(model),
        seed: input.seed ?? newSeed(),
      }
      return await engines.run(attempt, { params, report, signal })
    },
    free: (deviceUuid) => engines.free(deviceUuid),
    close: () => engines.close(),
  }
}

function modelFiles(model: LocalModel | null): OnnxParams['files'] {
  const { weights, vocabulary, upscaler } = model?.files ?? {}
  if (weights !== undefined && vocabulary !== undefined && upscaler !== undefined)
    return { weights, vocabulary, upscaler }
  const message = 'Image generation needs a model with the files "weights", "vocabulary" and "upscaler".'
  throw new AttemptError('model_unavailable', message, 'provider')
}
