import { createClient, runTask } from '@orbyte/sdk'

// Sorts sentences by how close they are in meaning to a question, with embeddings made on somebody's GPU.
//   ORBYTE_URL=http://127.0.0.1:8000 ORBYTE_TOKEN=orb_… npx tsx examples/search-by-meaning.ts

const client = createClient({
  url: process.env.ORBYTE_URL ?? 'http://127.0.0.1:8000',
  token: process.env.ORBYTE_TOKEN ?? '',
})
const question = 'hire a gpu to train a deep learning model'
const sentences = ['rent a graphics card by the hour', 'a banana bread with walnuts', 'the weather is nice today']

const { output_data } = await runTask(client, {
  task_type: 'embedding',
  input_data: { input: [question, ...sentences] },
})
if (!output_data) throw new Error('the task did not complete')
const [asked, ...vectors] = output_data.embeddings as [number[], ...number[][]]

const closeness = (vector: number[]) => vector.reduce((sum, value, index) => sum + value * asked[index]!, 0)
const ranked = sentences
  .map((sentence, index) => ({ sentence, score: closeness(vectors[index]!) }))
  .sort((a, b) => b.score - a.score)
for (const { sentence, score } of ranked) process.stdout.write(`${score.toFixed(2)}  ${sentence}\n`)
