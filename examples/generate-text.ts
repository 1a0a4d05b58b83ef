import { createClient, runTask } from '@orbyte/sdk'

// Generates text on somebody's GPU and prints it as it is produced.
//   ORBYTE_URL=http://127.0.0.1:8000 ORBYTE_TOKEN=orb_… npx tsx examples/generate-text.ts "Once upon a time"

const client = createClient({
  url: process.env.ORBYTE_URL ?? 'http://127.0.0.1:8000',
  token: process.env.ORBYTE_TOKEN ?? '',
})
const prompt = process.argv[2] ?? 'Once upon a time'

const task = await runTask(
  client,
  { task_type: 'text_generation', input_data: { prompt, max_tokens: 80 }, max_cost: '0.01' },
  { onOutput: (text) => process.stdout.write(text) },
)

process.stdout.write(`\n${task.status}: ${task.cost} ORB for ${task.run_ms} ms\n`)
process.exitCode = task.status === 'completed' ? 0 : 1
