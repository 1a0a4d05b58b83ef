import type { Model, TaskType } from '@orbyte/protocol'
import type { MarketGpu } from '../gpus/gpu-registry.ts'

type Runner = Pick<MarketGpu, 'usableVramGb' | 'taskTypes' | 'modelFormats' | 'ownModels' | 'limits'>

/**
 * Whether the GPU could run the model at all, busy or not: its owner allows it, it does one of the model's task types, and
 * either the owner's own server has the model under this name, or an executor loads its format and its weights fit.
 */
export function gpuCanRunModel(gpu: Runner, model: Model): boolean {
  if (gpu.limits.models !== null && !gpu.limits.models.includes(model.name)) return false
  if (!model.task_types.some((type) => gpu.taskTypes.includes(type))) return false
  if (gpu.ownModels.includes(model.name)) return true
  return gpu.modelFormats.includes(model.format) && gpu.usableVramGb >= model.vram_gb
}

/** Names of the catalogue's models that the GPU can run, then of those that the owner's own server has. */
export function modelsOfGpu(gpu: Runner, catalogue: readonly Model[]): string[] {
  const fromCatalogue = catalogue.filter((model) => gpuCanRunModel(gpu, model)).map(({ name }) => name)
  const own = gpu.ownModels.filter((name) => gpu.limits.models === null || gpu.limits.models.includes(name))
  return [...new Set([...fromCatalogue, ...own])]
}

/**
 * The catalogue's model of this name that does the task type; without a name, the first that does. Null: there is none, but a
 * GPU whose owner runs a server of their own may know the name (`ownModels`).
 */
export function resolveModel(catalogue: readonly Model[], taskType: TaskType, name: string | undefined): Model | null {
  return catalogue.find((model) => model.task_types.includes(taskType) && (name === undefined || model.name === name)) ?? null
}
