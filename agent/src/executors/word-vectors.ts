/** A table of word vectors, packed: a scale for each word, then 8-bit numbers, so that number × scale is the vector. */
export type WordVectors = {
  readonly dimensions: number
  /** Words by frequency, the most frequent first: word → place. */
  readonly places: ReadonlyMap<string, number>
  readonly scales: Float32Array
  readonly numbers: Int8Array
  /** The vector that words have in common: the mean over a text of all words, each as often and as heavy as it is there. */
  readonly common: Float64Array
}

/** Reads the files of a packed table: `words` one a line; `bytes` the scales, little-endian, then the numbers. */
export function readWordVectors(bytes: Uint8Array, words: string): WordVectors {
  const list = words.split('\n').filter((word) => word !== '')
  const dimensions = (bytes.length - 4 * list.length) / list.length
  if (!Number.isInteger(dimensions) || dimensions < 1)
    throw new Error('the vectors and the words do not belong together')
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const scales = Float32Array.from(list, (_, place) => view.getFloat32(4 * place, true))
  const numbers = new Int8Array(bytes.buffer, bytes.byteOffset + 4 * list.length, dimensions * list.length)
  const places = new Map(list.map((word, place) => [word, place]))
  return { dimensions, places, scales, numbers, common: commonVector(dimensions, scales, numbers) }
}

function commonVector(dimensions: number, scales: Float32Array, numbers: Int8Array): Float64Array {
  const sum = new Float64Array(dimensions)
  let weights = 0
  for (let place = 0; place < scales.length; place++) {
    const weight = probabilityOf(place) * weightOf(place)
    weights += weight
    for (let index = 0; index < dimensions; index++) {
      sum[index]! += weight * scales[place]! * numbers[place * dimensions + index]!
    }
  }
  return sum.map((value) => value / weights)
}

// Arora, Liang, Ma: A simple but tough-to-beat baseline for sentence embeddings, 2017. The weight of a word is a / (a + p),
// and what all texts have in common is taken away. Where they take the first principal component of the texts at hand, we
// take the expected vector, so that a text's embedding does not depend on its neighbours. Without it, "the weather is nice
// today" is nearer to "hire a gpu to train a model" (0.66) than "rent a graphics card" is; with it, it is not (0.16, 0.23).
const sifA = 1e-3
/** Zipf and Mandelbrot: the word in place r has probability 1 / (h (r + 2.7)); h sums that over 40,000 words. */
const zipfOffset = 2.7
const zipfSum = 9.7

export type Embedding = { readonly vector: number[]; readonly tokens: number }

/**
 * The vector of a text: the mean of its words' vectors, each weighted by how rare it is, made one long. A word that is not
 * in the table counts with a vector of its own that is derived from its letters, so that equal texts are equal and every
 * text has a direction.
 */
export function embedText(text: string, table: WordVectors): Embedding {
  const words = text.toLowerCase().match(/\p{L}+|\p{N}+/gu) ?? [text]
  const sum = new Float64Array(table.dimensions)
  for (const word of words) addWord(sum, word, table)
  const length = Math.hypot(...sum)
  // Rounded, so that the JSON is short: six digits are more than 8-bit numbers can tell apart.
  return { vector: Array.from(sum, (value) => Math.round((value / length) * 1e6) / 1e6), tokens: words.length }
}

function addWord(sum: Float64Array, word: string, { places, scales, numbers, dimensions, common }: WordVectors): void {
  const place = places.get(word)
  if (place === undefined) return addUnknownWord(sum, word)
  const weight = weightOf(place)
  const scale = scales[place]!
  for (let index = 0; index < dimensions; index++) {
    sum[index]! += weight * (scale * numbers[place * dimensions + index]! - common[index]!)
  }
}

const probabilityOf = (place: number) => 1 / (zipfSum * (place + zipfOffset))
const weightOf = (place: number) => sifA / (sifA + probabilityOf(place))

/** Adds a pseudo-random vector of length 1 or so: numbers from FNV-1a over the word's letters and the place. */
function addUnknownWord(sum: Float64Array, word: string): void {
  let seed = 0x811c9dc5
  for (const byte of Buffer.from(word)) seed = Math.imul(seed ^ byte, 0x01000193)
  const spread = Math.sqrt(3 / sum.length)
  for (let index = 0; index < sum.length; index++) {
    seed = Math.imul(seed ^ (seed >>> 15) ^ index, 0x01000193)
    sum[index]! += spread * ((seed >> 0) / 2 ** 31)
  }
}
