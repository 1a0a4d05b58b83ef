import type { EmbeddingInput, EmbeddingOutput, ImageGenerationInput, ImageGenerationOutput } from '@orbyte/protocol'
import type { TextGenerationInput, TextGenerationOutput } from '@orbyte/protocol'
import { decode } from 'fast-png'
import { z } from 'zod'
import { cancelReason } from './cancel-reason.ts'
import { AttemptError, type AttemptReport, type Executor } from './executor.ts'
import { createOpenaiServer, type OpenaiServer, type OpenaiServerOptions } from './openai-server.ts'

export type OpenaiExecutorOptions = OpenaiServerOptions & {
  /** A seed for images whose renter named none: 0 to 2³² - 1. */
  newSeed(): number
}

/**
 * Forwards to a server with the OpenAI API that the owner of the machine runs already (vLLM, Ollama, llama-server, …).
 * The models are that server's. The meter starts when a streamed request has been accepted, which is after the server has
 * loaded the model where it loads on demand; a request that is answered in one piece is metered from its start.
 */
export function createOpenaiExecutor({ newSeed, ...options }: OpenaiExecutorOptions): Executor {
  const server = createOpenaiServer(options)
  return {
    name: 'openai',
    taskTypes: ['text_generation', 'embedding', 'image_generation'],
    modelFormats: null,
    // Which GPUs its server uses, and how much of them, is that server's alone.
    several: false,
    shares: false,
    models: () => server.models(),
    async check() {
      try {
        const models = await server.models()
        if (models.length > 0) return null
        return { message: `The server at ${options.baseUrl} has no models.`, remedy: 'Load a model in it.' }
      } catch (error) {
        const message = error instanceof Error ? error.message : String(error)
        return { message, remedy: `Start the server at ${options.baseUrl}, or check its address and key.` }
      }
    },
    async run({ taskType, input, model }, report, signal) {
      try {
        signal.throwIfAborted()
        const name = model?.name ?? (input['model'] as string | undefined) ?? (await firstModel(server))
        const call: Call = { server, model: name, report, signal, newSeed }
        if (taskType === 'text_generation') return await generateText(input as TextInput, call)
        if (taskType === 'embedding') return await embed(input as z.output<typeof EmbeddingInput>, call)
        return await generateImages(input as ImageInput, call)
      } catch (error) {
        throw signal.aborted ? cancelReason(signal) : error
      }
    },
    close: async () => {},
  }
}

type TextInput = z.output<typeof TextGenerationInput>
type ImageInput = z.output<typeof ImageGenerationInput>
type Call = {
  readonly server: OpenaiServer
  readonly model: string
  readonly report: AttemptReport
  readonly signal: AbortSignal
  newSeed(): number
}

const Choice = z.object({
  text: z.string().nullish(),
  delta: z.object({ content: z.string().nullish() }).nullish(),
  finish_reason: z.string().nullish(),
})
const Usage = z.object({ prompt_tokens: z.int(), completion_tokens: z.int().nullish() })
const TextEvent = z.object({ choices: z.array(Choice).default([]), usage: Usage.nullish() })
const Embeddings = z.object({
  data: z.array(z.object({ index: z.int(), embedding: z.array(z.number()) })).min(1),
  usage: z.object({ prompt_tokens: z.int() }).nullish(),
})
const Images = z.object({ data: z.array(z.object({ b64_json: z.base64() })).min(1) })

async function firstModel(server: OpenaiServer): Promise<string> {
  const [first] = await server.models()
  if (first !== undefined) return first
  throw new AttemptError('model_unavailable', "The owner's model server has no models.", 'provider')
}

async function generateText(input: TextInput, { server, model, report, signal }: Call) {
  const { max_tokens, temperature, top_p, seed, stop, messages, prompt } = input
  const sampling = { max_tokens, temperature, top_p, seed, stop: stop.length > 0 ? stop : undefined }
  const body = { model, ...sampling, stream_options: { include_usage: true } }
  const options = { schema: TextEvent, signal }
  const events =
    messages === undefined
      ? await server.stream('/completions', { ...body, prompt }, options)
      : await server.stream('/chat/completions', { ...body, messages }, options)
  report.ready()

  let text = ''
  let pieces = 0
  let finish: string | null = null
  let usage: z.infer<typeof Usage> | null = null
  for await (const event of events) {
    usage = event.usage ?? usage
    const choice = event.choices[0]
    finish = choice?.finish_reason ?? finish
    const piece = choice?.delta?.content ?? choice?.text ?? ''
    if (piece === '') continue
    text += piece
    pieces += 1
    report.output(piece)
  }
  if (finish === null) {
    throw new AttemptError('engine_unavailable', "The owner's model server broke off its answer.", 'provider')
  }
  return {
    text,
    model,
    finish_reason: finish === 'length' ? 'length' : 'stop',
    prompt_tokens: usage?.prompt_tokens ?? 0,
    // A server that counts no tokens sends about one a piece.
    completion_tokens: usage?.completion_tokens ?? pieces,
  } satisfies z.infer<typeof TextGenerationOutput>
}

async function embed({ input }: z.output<typeof EmbeddingInput>, { server, model, report, signal }: Call) {
  report.ready()
  const body = { model, input, encoding_format: 'float' }
  const { data, usage } = await server.post('/embeddings', body, { schema: Embeddings, signal })
  const embeddings = data.sort((first, second) => first.index - second.index).map(({ embedding }) => unit(embedding))
  if (embeddings.length !== input.length) {
    const message = `The owner's model server gave ${embeddings.length} vectors for ${input.length} texts.`
    throw new AttemptError('engine_unavailable', message, 'provider')
  }
  const dimensions = embeddings[0]!.length
  return { embeddings, dimensions, model, tokens: usage?.prompt_tokens ?? 0 } satisfies z.infer<typeof EmbeddingOutput>
}

function unit(vector: number[]): number[] {
  const length = Math.hypot(...vector)
  return length === 0 ? vector : vector.map((value) => value / length)
}

/** One request an image, so that each has a seed of its own and a cancel comes between two. */
async function generateImages(input: ImageInput, { server, model, report, signal, newSeed }: Call) {
  report.ready()
  const firstSeed = input.seed ?? newSeed()
  const images: z.infer<typeof ImageGenerationOutput>['images'] = []
  for (let index = 0; index < input.count; index++) {
    const seed = (firstSeed + index) >>> 0
    const { prompt, steps, guidance } = input
    const body = { model, prompt, n: 1, response_format: 'b64_json', seed, steps, guidance_scale: guidance }
    const { data } = await server.post('/images/generations', body, { schema: Images, signal })
    const bytes = Buffer.from(data[0]!.b64_json, 'base64')
    const name = `image-${index + 1}.png`
    images.push({ file: name, ...sizeOf(bytes), seed })
    report.file({ name, mimeType: 'image/png', bytes })
  }
  return { images, model, ignored_words: [] } satisfies z.infer<typeof ImageGenerationOutput>
}

function sizeOf(bytes: Uint8Array): { width: number; height: number } {
  try {
    const { width, height } = decode(bytes)
    return { width, height }
  } catch {
    throw new AttemptError('engine_unavailable', "The owner's model server sent an image that is no PNG.", 'provider')
  }
}
