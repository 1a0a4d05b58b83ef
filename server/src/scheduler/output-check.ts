import { compiled, type Task, type TaskInput, type TaskOutput, taskOutputs, type TaskType } from '@orbyte/protocol'

type Result = {
  readonly taskType: TaskType
  /** What was asked for; null: it is not known any more. */
  readonly input: Task['input_data']
  readonly output: Task['output_data']
  /** Names of the files that have arrived, whole. */
  readonly files: readonly string[]
}

/**
 * Why a result is not what its task type promises: of another form, or not as much as was asked for; null: it is. What it says
 * is not judged here.
 */
export function outputProblem({ taskType, input, output, files }: Result): string | null {
  if (!compiled(taskOutputs[taskType]).safeParse(output).success)
    return 'The result does not have the form that its task type promises.'
  if (input === null) return null
  if (taskType === 'image_generation')
    return imageProblem(input as TaskInput<'image_generation'>, output as TaskOutput<'image_generation'>, files)
  if (taskType === 'embedding')
    return embeddingProblem(input as TaskInput<'embedding'>, output as TaskOutput<'embedding'>)
  return null
}

function imageProblem(
  { count }: TaskInput<'image_generation'>,
  { images }: TaskOutput<'image_generation'>,
  files: readonly string[],
): string | null {
  const names = new Set(images.map(({ file }) => file))
  if (names.size !== count) return `The result has ${names.size} images, and ${count} were asked for.`
  const missing = [...names].find((name) => !files.includes(name))
  return missing === undefined ? null : `The result names the image ${missing.slice(0, 200)}, which never arrived.`
}

function embeddingProblem(
  { input: texts }: TaskInput<'embedding'>,
  { embeddings, dimensions }: TaskOutput<'embedding'>,
): string | null {
  if (embeddings.length !== texts.length)
    return `The result has ${embeddings.length} vectors for ${texts.length} texts.`
  if (embeddings.some((vector) => vector.length !== dimensions))
    return `The result has vectors of other lengths than the ${dimensions} that it says.`
  return null
}
