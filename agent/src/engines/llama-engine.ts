import { stat } from 'node:fs/promises'
import { TextGenerationInput, TextGenerationOutput } from '@orbyte/protocol'
import type { Llama, LlamaContext, LlamaContextSequence, LlamaModel, LlamaText, Token } from 'node-llama-cpp'
import { z } from 'zod'
import { AttemptError } from '../executors/executor.ts'
import { importEngineLibrary } from './engine-library.ts'
import { gpuLibraries, type GpuLibrary } from './gpu-libraries.ts'
import { chatHistory, qaPrompt, qaStop } from './llama-prompt.ts'
import { createStopFilter } from './stop-texts.ts'
import { type Engine, type EngineContext, serveEngine } from './serve-engine.ts'
import { engineArguments, systemEngineHost } from './system-engine-host.ts'

type Library = typeof import('node-llama-cpp')

export const LlamaParams = z.object({
  input: TextGenerationInput,
  modelName: z.string(),
  modelFile: z.string(),
  promptStyle: z.enum(['qa', 'chat_template']),
  contextTokens: z.int().positive().nullable(),
  /** What computes: the processor, or the GPU by one of its libraries. */
  device: z.enum(['cpu', ...gpuLibraries]),
  /** What that library has to call the GPU, so that it is no other one; null: it was seen before. */
  gpuName: z.string().nullable(),
})
export type LlamaParams = z.input<typeof LlamaParams>
type Params = z.output<typeof LlamaParams>

/** Enough for long conversations, and little enough that its cache fits beside the weights of a model that fits at all. */
const contextTokensMax = 8_192
/**
 * llama.cpp's threads wait for each other by spinning. For a small model that costs more than it brings: with two threads
 * on a busy machine of two cores, 120 tokens of a 2 MB model took 2 to 41 s, with one thread 0.13 s.
 */
const smallModelBytesMax = 50 * 2 ** 20

/** Text generation with llama.cpp. One model is kept loaded. */
export function createLlamaEngine(enginesFolder: string | null): Engine {
  let loaded: LoadedModel | null = null
  const library = () => importEngineLibrary<Library>('node-llama-cpp', enginesFolder)

  return {
    async check() {
      const llama = await startLlama(await library(), 'auto')
      const gpu = llama.gpu
      await llama.dispose()
      return { gpu }
    },
    async run(params, context) {
      const wanted = LlamaParams.parse(params)
      const key = JSON.stringify([wanted.modelFile, wanted.contextTokens, wanted.device])
      if (loaded?.key !== key) {
        await loaded?.llama.dispose()
        loaded = null
        loaded = await loadModel(await library(), { key, wanted, context })
      }
      return await generate(await library(), { loaded, wanted, context })
    },
  }
}

type LoadedModel = {
  readonly key: string
  readonly llama: Llama
  readonly model: LlamaModel
  readonly context: LlamaContext
  readonly sequence: LlamaContextSequence
}

async function startLlama(library: Library, gpu: GpuLibrary | 'auto' | false): Promise<Llama> {
  return await library.getLlama({
    gpu,
    build: 'never',
    skipDownload: true,
    progressLogs: false,
    logLevel: library.LlamaLogLevel.error,
  })
}

type LoadRequest = { readonly key: string; readonly wanted: Params; readonly context: EngineContext }

async function loadModel(library: Library, { key, wanted, context }: LoadRequest): Promise<LoadedModel> {
  const llama = await startWanted(library, wanted)
  try {
    const { signal } = context
    const onLoadProgress = (fraction: number) => context.preparing(fraction)
    const model = await llama.loadModel({ modelPath: wanted.modelFile, onLoadProgress, loadSignal: signal })
    if (wanted.device !== 'cpu' && model.gpuLayers === 0)
      throw new AttemptError('out_of_memory', 'No layer of the model fits into what is free of the GPU.', 'provider')
    const isSmall = (await stat(wanted.modelFile)).size < smallModelBytesMax
    const tokensMax = Math.min(wanted.contextTokens ?? model.trainContextSize, contextTokensMax)
    const llamaContext = await model.createContext({
      contextSize: isSmall ? tokensMax : { max: tokensMax },
      threads: isSmall ? 1 : undefined,
      createSignal: signal,
    })
    const sequence = llamaContext.getSequence()
    await warmUp(model, sequence)
    return { key, llama, model, context: llamaContext, sequence }
  } catch (error) {
    await llama.dispose()
    throw loadError(library, error)
  }
}

/** Computes by what is wanted, and by nothing else: whoever pays for a GPU does not get the processor. */
async function startWanted(library: Library, { device, gpuName }: Params): Promise<Llama> {
  const llama = await startLlama(library, device === 'cpu' ? false : device).catch((error: unknown) => {
    if (!(error instanceof library.NoBinaryFoundError)) throw error
    throw new AttemptError('engine_unavailable', 'Its library cannot be loaded, or finds no GPU.', 'provider')
  })
  const found = device === 'cpu' ? [] : await llama.getGpuDeviceNames()
  if (device === 'cpu' || (llama.gpu === device && (gpuName === null || found.includes(gpuName)))) return llama
  await llama.dispose()
  const message = `It finds ${found.join(', ') || 'no GPU'} in the place of ${gpuName ?? 'a GPU'}.`
  throw new AttemptError(found.length > 0 ? 'other_gpu' : 'engine_unavailable', message, 'provider')
}

/** The first token takes the longest, and shows whether the GPU computes at all: nobody is to pay for finding out. */
async function warmUp(model: LlamaModel, sequence: LlamaContextSequence): Promise<void> {
  await sequence.evaluateWithoutGeneratingNewTokens(tokenize(model, 'a'))
  await sequence.clearHistory()
}

function loadError(library: Library, error: unknown): unknown {
  if (error instanceof AttemptError) return error
  const why = error instanceof Error ? error.message : String(error)
  if (error instanceof library.InsufficientMemoryError) {
    return new AttemptError('out_of_memory', `The model does not fit into this device's memory: ${why}`, 'provider')
  }
  return new AttemptError('model_unavailable', `The model cannot be loaded: ${why}`, 'provider')
}

type GenerateRequest = { readonly loaded: LoadedModel; readonly wanted: Params; readonly context: EngineContext }

async function generate(library: Library, { loaded, wanted, context }: GenerateRequest) {
  const { model, sequence } = loaded
  const { input } = wanted
  const prompt = buildPrompt(library, loaded, wanted)
  const tokensLeft = loaded.context.contextSize - prompt.tokens.length
  if (tokensLeft <= 0) {
    const message = `The prompt has ${prompt.tokens.length} tokens; this model takes fewer than ${loaded.context.contextSize}.`
    throw new AttemptError('input_too_long', message, 'renter')
  }
  for (const note of prompt.notes) context.log(note)
  await context.ready()

  const text = collectText(context, { isChat: prompt.isChat, stops: [...prompt.stopTexts, ...input.stop] })
  let completionTokens = 0
  const completion = new library.LlamaCompletion({ contextSequence: sequence })
  try {
    const { metadata } = await completion.generateCompletionWithMeta(prompt.tokens, {
      maxTokens: Math.min(input.max_tokens, tokensLeft),
      temperature: input.temperature,
      topP: input.top_p,
      seed: input.seed,
      repeatPenalty: false,
      disableContextShift: true,
      customStopTriggers: prompt.stopTokens,
      signal: AbortSignal.any([context.signal, text.stopped]),
      stopOnAbortSignal: true,
      onTextChunk: text.add,
      onToken: (tokens) => void (completionTokens += tokens.length),
    })
    context.signal.throwIfAborted()
    return TextGenerationOutput.parse({
      text: text.end(),
      model: wanted.modelName,
      finish_reason: metadata.stopReason === 'maxTokens' ? 'length' : 'stop',
      prompt_tokens: prompt.tokens.length,
      completion_tokens: completionTokens,
    })
  } finally {
    completion.dispose()
    // Nothing of a task stays behind; and what was computed once would change the rounding of a later run.
    if (!model.disposed) await sequence.clearHistory()
  }
}

type Prompt = {
  readonly tokens: Token[]
  readonly stopTexts: readonly string[]
  readonly stopTokens: readonly LlamaText[]
  readonly isChat: boolean
  readonly notes: readonly string[]
}

function buildPrompt(library: Library, { model }: LoadedModel, { input, promptStyle }: Params): Prompt {
  const { messages } = input
  if (messages === undefined) {
    return { tokens: tokenize(model, input.prompt ?? ''), stopTexts: [], stopTokens: [], isChat: false, notes: [] }
  }
  if (promptStyle === 'qa') {
    const hasSystem = messages.some((message) => message.role === 'system')
    const notes = hasSystem ? ['This model takes no system message: it was left out.'] : []
    return { tokens: tokenize(model, qaPrompt(messages)), stopTexts: [qaStop], stopTokens: [], isChat: true, notes }
  }
  const { contextText, stopGenerationTriggers } = library
    .resolveChatWrapper(model)
    .generateContextState({ chatHistory: chatHistory(messages) })
  const tokens = withBeginning(model, contextText.tokenize(model.tokenizer))
  return { tokens, stopTexts: [], stopTokens: stopGenerationTriggers, isChat: true, notes: [] }
}

function tokenize(model: LlamaModel, text: string): Token[] {
  return withBeginning(model, model.tokenize(text))
}

function withBeginning({ tokens: special }: LlamaModel, tokens: Token[]): Token[] {
  const isMissing = special.shouldPrependBosToken && special.bos !== null && tokens[0] !== special.bos
  return isMissing ? [special.bos, ...tokens] : tokens
}

type TextOptions = { readonly isChat: boolean; readonly stops: readonly string[] }

/**
 * Passes text on as it comes, up to a stop text. An answer in a conversation starts with its first letter, not with the
 * space before it.
 */
function collectText(context: EngineContext, { isChat, stops }: TextOptions) {
  const filter = createStopFilter(stops)
  const stopped = new AbortController()
  let whole = ''
  const show = (shown: string) => {
    const text = isChat && whole === '' ? shown.trimStart() : shown
    whole += text
    if (text !== '') context.output(text)
  }
  return {
    stopped: stopped.signal,
    add(this: void, chunk: string) {
      show(filter.add(chunk))
      if (filter.hasStopped()) stopped.abort()
    },
    end() {
      show(filter.end())
      return whole
    },
  }
}

serveEngine(createLlamaEngine(engineArguments().enginesFolder), systemEngineHost())
