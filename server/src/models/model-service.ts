import { type ListedModel, type Model, problem, type TaskType } from '@orbyte/protocol'
import type { z } from 'zod'
import type { GpuRegistry } from '../gpus/gpu-registry.ts'
import { gpuStatus } from '../gpus/gpu-status.ts'
import type { BundledFile, Catalogue } from './model-catalogue.ts'
import { gpuCanRunModel, resolveModel } from './model-fit.ts'

export type ModelService = ReturnType<typeof createModelService>

/** The catalogue, as it is asked for. */
export function createModelService(catalogue: Catalogue, registry: GpuRegistry) {
  return {
    list(taskType: TaskType | undefined): z.output<typeof ListedModel>[] {
      const connected = registry.all().filter((gpu) => gpuStatus(gpu) !== 'offline')
      return catalogue.models
        .filter((model) => taskType === undefined || model.task_types.includes(taskType))
        .map((model) => ({ ...model, gpus_connected: connected.filter((gpu) => gpuCanRunModel(gpu, model)).length }))
    },
    /** Those whose results can be compared. */
    deterministic: (): readonly Model[] => catalogue.models.filter((model) => model.deterministic),
    /** See `resolveModel` in model-fit.ts. */
    resolve: (taskType: TaskType, name: string | undefined): Model | null => resolveModel(catalogue.models, taskType, name),
    file(sha256: string): BundledFile {
      const file = catalogue.files.get(sha256)
      if (!file) throw problem('not_found', `This market carries no file ${sha256}. GET /api/models says where each file is.`)
      return file
    },
  }
}
