import { z } from 'zod'

/** The words that the image model knows, in the order of its inputs. */
export const Vocabulary = z.object({
  objects: z.array(z.string()),
  colors: z.array(z.string()),
  /** Width and height of an image, in pixels. */
  size: z.int().positive(),
})
export type Vocabulary = z.infer<typeof Vocabulary>

export type Condition = {
  /** One number for each object, each colour of the object, and each colour of the background: 1 if the prompt says it. */
  readonly values: Float32Array
  /** Words that had no effect, in the order of the prompt. */
  readonly ignoredWords: string[]
}

const grammarWords = new Set(['a', 'an', 'the', 'on', 'in', 'with', 'of', 'and', 'background'])

/**
 * Reads a prompt like "a purple octopus on a yellow background". The first word that is an object is the object. A colour
 * after it is the background's, a colour before it the object's. Other words change nothing, and are reported.
 */
export function parsePrompt(prompt: string, { objects, colors }: Vocabulary): Condition {
  const words: string[] =
    prompt
      .toLowerCase()
      .replaceAll('grey', 'gray')
      .match(/\p{L}+/gu) ?? []
  const objectIndexes = words.map((word) => objectIndex(word, objects))
  const objectAt = objectIndexes.findIndex((index) => index >= 0)
  const backgroundAt = words.indexOf('background')
  const values = new Float32Array(objects.length + 2 * colors.length)
  if (objectAt >= 0) values[objectIndexes[objectAt]!] = 1

  const ignoredWords: string[] = []
  words.forEach((word, at) => {
    const color = colors.indexOf(word)
    if (color >= 0) {
      const isBackground = at > objectAt && (objectAt >= 0 || at < backgroundAt)
      values[objects.length + (isBackground ? colors.length : 0) + color] = 1
    } else if (at !== objectAt && !grammarWords.has(word)) ignoredWords.push(word)
  })
  return { values, ignoredWords: [...new Set(ignoredWords)] }
}

function objectIndex(word: string, objects: readonly string[]): number {
  const index = objects.indexOf(word)
  return index >= 0 ? index : objects.indexOf(word.replace(/s$/, ''))
}
