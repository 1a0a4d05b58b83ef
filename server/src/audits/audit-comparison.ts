import type { Task, TaskOutput, TaskType } from '@orbyte/protocol'
import type { MarketGpu } from '../gpus/gpu-registry.ts'
import { normaliseGpuName } from '../gpus/gpu-names.ts'

/** What a GPU has made of a question. */
export type Answer =
  | {
      readonly kind: 'result'
      readonly output: NonNullable<Task['output_data']>
      readonly files: readonly AnswerFile[]
    }
  /** It says that the question itself is at fault. */
  | { readonly kind: 'blamed_input' }
export type AnswerFile = { readonly name: string; readonly sha256: string }

/** Vectors are written with all their digits; only the last of them may differ. */
const vectorTolerance = 1e-4

type Computes = Pick<MarketGpu, 'kind' | 'model' | 'agentVersion' | 'specs'>

/**
 * GPUs of one class give the same answer to the same question: the same hardware and system, and the same version of the agent,
 * which comes with engines of its own. (An emulated GPU computes on its machine's processor.) Between classes sums are added up in another order, floats round otherwise, and one token in a
 * thousand comes out differently: there a difference is no evidence.
 */
export function deviceClassOf({ kind, model, agentVersion, specs }: Computes): string {
  const processor = kind === 'emulated' ? [normaliseGpuName(specs?.cpu_model ?? 'unknown')] : []
  const system = specs?.os.split(' ')[0]?.toLowerCase() ?? 'unknown'
  return [`${kind} ${normaliseGpuName(model)}`, ...processor, system, `agent ${agentVersion ?? 'unknown'}`].join(', ')
}

/** Whether a task gives the same result each time: with a seed where chance is involved. */
export function isRepeatable(taskType: TaskType, input: NonNullable<Task['input_data']>): boolean {
  switch (taskType) {
    case 'text_generation':
      return input.seed !== undefined || input.temperature === 0
    case 'image_generation':
      return input.seed !== undefined
    case 'embedding':
      return true
    case 'model_training':
    case 'container':
    case 'other':
      return false
  }
}

/** Whether two GPUs of a class have said the same. Counters, which only they can know, are not compared. */
export function isSameAnswer(taskType: TaskType, one: Answer, other: Answer): boolean {
  if (one.kind === 'blamed_input' || other.kind === 'blamed_input') return one.kind === other.kind
  switch (taskType) {
    case 'text_generation':
      return isSameText(one.output as TextOutput, other.output as TextOutput)
    case 'image_generation':
      return imagesOf(one) === imagesOf(other)
    case 'embedding':
      return areSameVectors(one.output as EmbeddingOutput, other.output as EmbeddingOutput)
    case 'model_training':
    case 'container':
    case 'other':
      return false
  }
}

type TextOutput = TaskOutput<'text_generation'>
type EmbeddingOutput = TaskOutput<'embedding'>

function isSameText(one: TextOutput, other: TextOutput): boolean {
  return one.text === other.text && one.finish_reason === other.finish_reason
}

/** The hash of each image, in the order of the result. */
function imagesOf({ output, files }: Extract<Answer, { kind: 'result' }>): string {
  const hashes = new Map(files.map(({ name, sha256 }) => [name, sha256]))
  const { images } = output as TaskOutput<'image_generation'>
  return images.map(({ file }) => hashes.get(file) ?? '').join(' ')
}

function areSameVectors({ embeddings: ones }: EmbeddingOutput, { embeddings: others }: EmbeddingOutput): boolean {
  return (
    ones.length === others.length &&
    ones.every((one, index) => {
      const other = others[index]!
      return one.length === other.length && one.every((x, at) => Math.abs(x - other[at]!) <= vectorTolerance)
    })
  )
}
