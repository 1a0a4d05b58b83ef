import { z } from 'zod'
import { JsonObject, JsonValue } from './endpoint.ts'

/**
 * What can be asked for: one input schema and one output schema a task type.
 * The server validates `input_data` on submission and an agent's `output_data` on arrival with the same schemas.
 */
export const TaskType = z
  .enum(['text_generation', 'image_generation', 'embedding', 'model_training', 'container', 'other'])
  .meta({ id: 'TaskType', description: 'The kind of work; it decides the shape of input_data and output_data.' })
export type TaskType = z.infer<typeof TaskType>

const ModelName = z
  .string()
  .min(1)
  .max(200)
  .describe('Name of a model in the catalogue (GET /api/models). Default: the first one that can do this task type.')
const Seed = z
  .int()
  .min(0)
  .max(0xffff_ffff)
  .describe('The same seed, model and input give the same output. Default: the market draws one; the task shows it.')

export const ChatMessage = z.strictObject({
  role: z.enum(['system', 'user', 'assistant']),
  content: z.string().max(200_000),
})

export const TextGenerationInput = z
  .strictObject({
    prompt: z.string().min(1).max(200_000).optional().describe('Text to continue. Give either prompt or messages.'),
    messages: z.array(ChatMessage).min(1).max(1_000).optional().describe('A conversation to answer, oldest first.'),
    model: ModelName.optional(),
    max_tokens: z.int().min(1).max(32_768).default(256).describe('Stop after this many generated tokens.'),
    temperature: z.number().min(0).max(2).default(0.7).describe('0 is deterministic; higher is more varied.'),
    top_p: z.number().gt(0).max(1).default(1).describe('Sample from the smallest set of tokens with this probability.'),
    seed: Seed.optional(),
    stop: z.array(z.string().min(1).max(100)).max(8).default([]).describe('Stop before any of these texts.'),
  })
  .refine((input) => (input.prompt === undefined) !== (input.messages === undefined), {
    message: 'give either prompt or messages, and not both',
  })
  .meta({ id: 'TextGenerationInput' })

export const TextGenerationOutput = z
  .object({
    text: z.string(),
    model: z.string(),
    finish_reason: z.enum(['stop', 'length']).describe('"length": max_tokens or the model’s context was used up.'),
    prompt_tokens: z.int().nonnegative(),
    completion_tokens: z.int().nonnegative(),
  })
  .meta({ id: 'TextGenerationOutput' })

export const ImageGenerationInput = z
  .strictObject({
    prompt: z.string().min(1).max(10_000).describe('What the image shows.'),
    model: ModelName.optional(),
    count: z.int().min(1).max(16).default(1).describe('How many images.'),
    steps: z.int().min(1).max(200).default(20).describe('Sampling steps: more is slower and finer.'),
    guidance: z
      .number()
      .min(0)
      .max(30)
      .default(2.5)
      .describe('How strongly the prompt steers (classifier-free guidance).'),
    upscale: z.boolean().default(true).describe('Enlarge the result four times.'),
    seed: Seed.optional().describe(
      'Seed of the first image; the next ones count up from it. Default: the market draws one; the task shows it.',
    ),
  })
  .meta({ id: 'ImageGenerationInput' })

export const GeneratedImage = z.object({
  file: z.string().describe('Name of the file among the task’s files.'),
  width: z.int().positive().describe('Pixels.'),
  height: z.int().positive().describe('Pixels.'),
  seed: z.int().nonnegative(),
})

export const ImageGenerationOutput = z
  .object({
    images: z.array(GeneratedImage).min(1),
    model: z.string(),
    ignored_words: z.array(z.string()).describe('Words of the prompt that the model does not know.'),
  })
  .meta({ id: 'ImageGenerationOutput' })

export const EmbeddingInput = z
  .strictObject({
    input: z.array(z.string().min(1).max(32_768)).min(1).max(2_048).describe('Texts, one vector each.'),
    model: ModelName.optional(),
  })
  .meta({ id: 'EmbeddingInput' })

export const EmbeddingOutput = z
  .object({
    embeddings: z.array(z.array(z.number())).min(1).describe('Unit vectors, in the order of the input.'),
    dimensions: z.int().positive(),
    model: z.string(),
    tokens: z.int().nonnegative(),
  })
  .meta({ id: 'EmbeddingOutput' })

export const ModelTrainingInput = z
  .strictObject({
    base_model: ModelName.describe('The catalogue model to start from.'),
    dataset_url: z
      .url({ protocol: /^https$/ })
      .max(2_000)
      .describe('Training data in JSON Lines, fetched by the agent.'),
    method: z.enum(['lora', 'full']).default('lora'),
    epochs: z.number().positive().max(1_000).default(1),
    learning_rate: z.number().positive().max(1).default(0.0002),
    batch_size: z.int().min(1).max(4_096).default(8),
    seed: Seed.optional(),
  })
  .meta({ id: 'ModelTrainingInput' })

export const ContainerInput = z
  .strictObject({
    image: z.string().min(1).max(500).describe('Image reference, with a tag or a digest.'),
    command: z.array(z.string().max(10_000)).max(200).optional().describe('Replaces the image’s command.'),
    env: z.record(z.string().regex(/^[A-Za-z_][A-Za-z0-9_]*$/), z.string().max(10_000)).default({}),
    cpu_cores: z.number().positive().max(256).default(1),
    memory_gb: z.number().positive().max(4_096).default(2).describe('GiB.'),
    disk_gb: z.number().positive().max(16_384).default(5).describe('GiB.'),
    network: z
      .boolean()
      .default(false)
      .describe('Whether the container may reach the network, where the owner allows it.'),
  })
  .meta({ id: 'ContainerInput' })

export const OtherInput = z
  .record(z.string().max(100), JsonValue)
  .meta({ id: 'OtherInput', description: 'Free-form input for an executor that the provider offers for "other".' })

const AnyOutput = JsonObject.meta({ id: 'AnyOutput' })
export const ContainerOutput = z.object({ exit_code: z.int() }).meta({ id: 'ContainerOutput' })

export const taskInputs = {
  text_generation: TextGenerationInput,
  image_generation: ImageGenerationInput,
  embedding: EmbeddingInput,
  model_training: ModelTrainingInput,
  container: ContainerInput,
  other: OtherInput,
} as const satisfies Record<TaskType, z.ZodType>

export const taskOutputs = {
  text_generation: TextGenerationOutput,
  image_generation: ImageGenerationOutput,
  embedding: EmbeddingOutput,
  model_training: AnyOutput,
  container: ContainerOutput,
  other: AnyOutput,
} as const satisfies Record<TaskType, z.ZodType>

/** What a renter sends: defaults may be left out. */
export type GivenTaskInput<T extends TaskType = TaskType> = z.input<(typeof taskInputs)[T]>
export type TaskInput<T extends TaskType = TaskType> = z.output<(typeof taskInputs)[T]>
export type TaskOutput<T extends TaskType = TaskType> = z.output<(typeof taskOutputs)[T]>

/** Longest time that a task of this type may run, in milliseconds, unless it asks for less. */
export const durationMsMaxByType: Readonly<Record<TaskType, number>> = {
  text_generation: 10 * 60_000,
  image_generation: 10 * 60_000,
  embedding: 10 * 60_000,
  model_training: 24 * 3_600_000,
  container: 24 * 3_600_000,
  other: 3_600_000,
}
