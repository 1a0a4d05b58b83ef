import type { Task, TaskInput, TaskOutput, TaskType } from '@orbyte/protocol'

/** Reading a prompt is so much faster than writing, on everything from a CPU to an H100; it only has to be of this size. */
const tokensReadPerTokenWritten = 10

/** What a measured speed is counted in, for those who read it. */
export const workUnits: Partial<Record<TaskType, string>> = {
  text_generation: 'tokens',
  image_generation: 'sampling steps',
  embedding: 'characters',
}

type Work = { taskType: TaskType; input: NonNullable<Task['input_data']>; output: NonNullable<Task['output_data']> }

/**
 * How much was done, counted in what an agent cannot say as it likes: tokens that it claims are bounded by the text that is
 * there (a token has at least a byte) and that was asked for; steps and characters are the renter's own numbers. Null: nothing
 * that can be counted.
 */
export function workOf({ taskType, input, output }: Work): number | null {
  switch (taskType) {
    case 'text_generation':
      return textWork(input as TaskInput<'text_generation'>, output as TaskOutput<'text_generation'>)
    case 'image_generation': {
      const { count, steps } = input as TaskInput<'image_generation'>
      return count * steps
    }
    case 'embedding': {
      const { input: texts } = input as TaskInput<'embedding'>
      return texts.reduce((sum, text) => sum + text.length, 0)
    }
    case 'model_training':
    case 'container':
    case 'other':
      return null
  }
}

function textWork(input: TaskInput<'text_generation'>, output: TaskOutput<'text_generation'>): number | null {
  const { prompt = '', messages = [], max_tokens } = input
  const given = Buffer.byteLength(prompt) + messages.reduce((sum, { content }) => sum + Buffer.byteLength(content), 0)
  const written = Math.min(output.completion_tokens, max_tokens, Buffer.byteLength(output.text))
  const read = Math.min(output.prompt_tokens, given)
  return written === 0 ? null : written + read / tokensReadPerTokenWritten
}
