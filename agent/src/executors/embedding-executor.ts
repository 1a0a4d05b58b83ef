import { readFile } from 'node:fs/promises'
import type { EmbeddingInput, EmbeddingOutput } from '@orbyte/protocol'
import type { z } from 'zod'
import type { Clock } from '../clock.ts'
import { AttemptError, type Executor, type LocalModel } from './executor.ts'
import { embedText, readWordVectors, type WordVectors } from './word-vectors.ts'

/** About 10 ms of work: after so many characters, the agent's other work has its turn. */
const charactersAtOnce = 50_000

/** Embeddings with a packed table of word vectors, computed in the agent itself: there is nothing native in it. */
export function createEmbeddingExecutor({ clock }: { readonly clock: Clock }): Executor {
  let loaded: { readonly key: string; readonly table: WordVectors } | null = null

  return {
    name: 'embedding',
    taskTypes: ['embedding'],
    modelFormats: ['wordvec'],
    // All of it is computed in the agent's own process.
    several: false,
    shares: false,
    check: async () => null,
    async run({ input, model }, report, signal) {
      signal.throwIfAborted()
      const files = modelFiles(model)
      const key = JSON.stringify(files)
      if (loaded?.key !== key) {
        report.preparing('load', null)
        loaded = { key, table: await loadTable(files) }
      }
      const { table } = loaded
      report.ready()
      const texts = (input as z.output<typeof EmbeddingInput>).input
      return await embedTexts(texts, { table, modelName: model?.name ?? '', clock, signal })
    },
    async close() {
      loaded = null
    },
  }
}

type EmbedOptions = { table: WordVectors; modelName: string; clock: Clock; signal: AbortSignal }

async function embedTexts(texts: readonly string[], { table, modelName, clock, signal }: EmbedOptions) {
  const embeddings: number[][] = []
  let tokens = 0
  let charactersSincePause = 0
  for (const text of texts) {
    signal.throwIfAborted()
    const embedding = embedText(text, table)
    embeddings.push(embedding.vector)
    tokens += embedding.tokens
    charactersSincePause += text.length
    if (charactersSincePause > charactersAtOnce) {
      charactersSincePause = 0
      await clock.sleep(0, signal)
    }
  }
  signal.throwIfAborted()
  return { embeddings, dimensions: table.dimensions, model: modelName, tokens } satisfies z.infer<
    typeof EmbeddingOutput
  >
}

async function loadTable(files: { vectors: string; words: string }): Promise<WordVectors> {
  try {
    return readWordVectors(await readFile(files.vectors), await readFile(files.words, 'utf8'))
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error)
    throw new AttemptError('model_unavailable', `The model cannot be loaded: ${why}`, 'provider')
  }
}

function modelFiles(model: LocalModel | null): { vectors: string; words: string } {
  const { vectors, words } = model?.files ?? {}
  if (vectors !== undefined && words !== undefined) return { vectors, words }
  throw new AttemptError(
    'model_unavailable',
    'Embedding needs a model with the files "vectors" and "words".',
    'provider',
  )
}
