import { readFile } from 'node:fs/promises'
import { ImageGenerationInput, ImageGenerationOutput } from '@orbyte/protocol'
import { encode } from 'fast-png'
import type { InferenceSession } from 'onnxruntime-node'
import { z } from 'zod'
import { AttemptError } from '../executors/executor.ts'
import { importEngineLibrary } from './engine-library.ts'
import { pixelsOf, sampleFlow, type Velocity } from './rectified-flow.ts'
import { type Engine, type EngineContext, serveEngine } from './serve-engine.ts'
import { engineArguments, systemEngineHost } from './system-engine-host.ts'
import { type Condition, parsePrompt, Vocabulary } from './tinyimg-prompt.ts'

type Library = typeof import('onnxruntime-node')

export const OnnxParams = z.object({
  input: ImageGenerationInput,
  modelName: z.string(),
  files: z.object({ weights: z.string(), vocabulary: z.string(), upscaler: z.string() }),
  /** Seed of the first image. */
  seed: z.int().min(0),
})
export type OnnxParams = z.input<typeof OnnxParams>
type Params = z.output<typeof OnnxParams>

/** The upscaler's factor, in width and height. */
const upscaleFactor = 4

/** Image generation with ONNX Runtime, on the CPU. One model is kept loaded. */
export function createOnnxEngine(enginesFolder: string | null): Engine {
  let loaded: LoadedModel | null = null
  const library = () => importEngineLibrary<Library>('onnxruntime-node', enginesFolder)

  return {
    check: async () => ({ backends: (await library()).listSupportedBackends().map((backend) => backend.name) }),
    async run(params, context) {
      const wanted = OnnxParams.parse(params)
      const key = JSON.stringify(wanted.files)
      if (loaded?.key !== key) loaded = await loadModel(await library(), { key, wanted, context })
      return await generate(await library(), { loaded, wanted, context })
    },
  }
}

type LoadedModel = {
  readonly key: string
  readonly vocabulary: Vocabulary
  readonly generator: InferenceSession
  readonly upscaler: InferenceSession
}

type LoadRequest = { readonly key: string; readonly wanted: Params; readonly context: EngineContext }

async function loadModel(library: Library, { key, wanted, context }: LoadRequest): Promise<LoadedModel> {
  // More threads cost more than they bring for models this small.
  const open = (file: string) => library.InferenceSession.create(file, { intraOpNumThreads: 1 })
  try {
    context.preparing(0)
    const vocabulary = Vocabulary.parse(JSON.parse(await readFile(wanted.files.vocabulary, 'utf8')))
    const generator = await open(wanted.files.weights)
    context.preparing(0.5)
    const upscaler = await open(wanted.files.upscaler)
    context.preparing(1)
    return { key, vocabulary, generator, upscaler }
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error)
    throw new AttemptError('model_unavailable', `The model cannot be loaded: ${why}`, 'provider')
  }
}

type GenerateRequest = { readonly loaded: LoadedModel; readonly wanted: Params; readonly context: EngineContext }

async function generate(library: Library, { loaded, wanted, context }: GenerateRequest) {
  const { input } = wanted
  const { vocabulary } = loaded
  const condition = parsePrompt(input.prompt, vocabulary)
  await context.ready()
  for (const line of notesOn(condition, vocabulary)) context.log(line)

  const images: z.infer<typeof ImageGenerationOutput>['images'] = []
  for (let index = 0; index < input.count; index++) {
    const seed = (wanted.seed + index) >>> 0
    const picture = await drawPicture(library, { loaded, input, condition, seed, signal: context.signal })
    const name = `image-${index + 1}.png`
    const bytes = encode({ width: picture.size, height: picture.size, data: picture.pixels, channels: 3, depth: 8 })
    context.file({ name, mimeType: 'image/png', bytes })
    context.log(`Image ${index + 1} of ${input.count}: ${name}, seed ${seed}.`)
    images.push({ file: name, width: picture.size, height: picture.size, seed })
  }
  return ImageGenerationOutput.parse({ images, model: wanted.modelName, ignored_words: condition.ignoredWords })
}

function notesOn({ values, ignoredWords }: Condition, { objects, colors }: Vocabulary): string[] {
  const notes: string[] = []
  if (ignoredWords.length > 0) notes.push(`Words without effect: ${ignoredWords.join(', ')}.`)
  if (!values.subarray(0, objects.length).includes(1)) {
    notes.push(
      `The prompt names no object that this model knows: ${objects.join(', ')}. Colours: ${colors.join(', ')}.`,
    )
  }
  return notes
}

type PictureRequest = {
  readonly loaded: LoadedModel
  readonly input: Params['input']
  readonly condition: Condition
  readonly seed: number
  readonly signal: AbortSignal
}

async function drawPicture(library: Library, { loaded, input, condition, seed, signal }: PictureRequest) {
  const { size } = loaded.vocabulary
  const velocity = velocityOf(library, loaded)
  const { steps, guidance } = input
  const planes = await sampleFlow(velocity, 3 * size * size, {
    condition: condition.values,
    steps,
    guidance,
    seed,
    signal,
  })
  const pixels = pixelsOf(planes, (value) => (value + 1) * 127.5)
  if (!input.upscale) return { size, pixels }
  signal.throwIfAborted()
  return { size: size * upscaleFactor, pixels: await enlarge(library, loaded, pixels) }
}

function velocityOf(library: Library, { generator, vocabulary: { size } }: LoadedModel): Velocity {
  const { Tensor } = library
  return async (pair, time, conditions) => {
    const { v } = await generator.run({
      x: new Tensor('float32', pair, [2, 3, size, size]),
      t: new Tensor('float32', Float32Array.of(time, time), [2]),
      c: new Tensor('float32', conditions, [2, conditions.length / 2]),
    })
    return v!.data as Float32Array
  }
}

async function enlarge(library: Library, { upscaler, vocabulary: { size } }: LoadedModel, pixels: Uint8Array) {
  const count = size * size
  const planes = Float32Array.from(pixels, (_, index) => pixels[3 * (index % count) + Math.floor(index / count)]!)
  const { y } = await upscaler.run({ x: new library.Tensor('float32', planes, [1, 3, size, size]) })
  return pixelsOf(y!.data as Float32Array, Math.round)
}

serveEngine(createOnnxEngine(engineArguments().enginesFolder), systemEngineHost())
