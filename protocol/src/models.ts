import { z } from 'zod'
import { endpoint } from './endpoint.ts'
import { TaskType } from './task-types.ts'

const Sha256 = z.string().regex(/^[0-9a-f]{64}$/, { error: 'a SHA-256 is 64 hex digits, lower case' })

export const ModelFile = z.object({
  name: z.string().describe('What the executor calls it, like "weights".'),
  url: z.string().describe('Where an agent fetches it: absolute, or a path on this server.'),
  sha256: Sha256,
  size_bytes: z.int().positive(),
})

/** Weights, and what is needed to run them. */
export const Model = z
  .object({
    name: z.string(),
    title: z.string(),
    description: z.string(),
    task_types: z.array(TaskType),
    format: z.string().describe('What an executor must be able to load, like "gguf".'),
    files: z.array(ModelFile),
    parameters: z.int().positive().describe('How many weights it has.'),
    context_tokens: z.int().positive().nullable(),
    prompt_style: z.enum(['qa', 'chat_template']).nullable().describe('How a conversation becomes a prompt.'),
    vram_gb: z.number().positive().describe('GiB of GPU memory (or RAM, on a CPU) that it needs.'),
    licence: z.string(),
    origin: z.string(),
    deterministic: z
      .boolean()
      .default(false)
      .describe('The same input and seed give the same output on every GPU of a kind, so the market can check it.'),
    demo: z.boolean().describe('A demonstration model of a few million parameters: real, small, not clever.'),
  })
  .meta({ id: 'Model' })
export type Model = z.infer<typeof Model>

export const ListedModel = Model.extend({
  gpus_connected: z.int().nonnegative().describe('How many connected GPUs could run it.'),
}).meta({ id: 'ListedModel' })

export const models = {
  list: endpoint('GET /api/models/', {
    summary: 'The catalogue of models',
    access: 'public',
    input: z.strictObject({ task_type: TaskType.optional() }),
    output: z.object({ items: z.array(ListedModel) }),
  }),
  file: endpoint('GET /api/models/files/{sha256}', {
    summary: 'Download a file of a model that this market carries itself',
    description: 'Supports `Range`, so that a download can go on where it broke off. The content never changes.',
    access: 'public',
    reply: 'bytes',
    input: z.strictObject({ sha256: Sha256 }),
    output: z.string(),
    errors: ['not_found', 'range_not_satisfiable'],
  }),
}
