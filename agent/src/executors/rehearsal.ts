import { z } from 'zod'

/** What came of a short computation on a GPU, in the way that an attempt does it. */
export const Rehearsal = z.object({
  /** By which library it computes, for a person ("CUDA"); null: by none. */
  computesBy: z.string().nullable(),
  /** Of a model that hardly has weights: what the way to the GPU and back takes. */
  tokensPerSecond: z.number().nullable(),
  /** VRAM of the process that computed: what each has beside its model. Null: the driver did not list the process. */
  vramMib: z.number().nullable(),
  /** Better libraries that do not compute there. */
  failures: z.array(z.object({ library: z.string(), code: z.string(), message: z.string(), remedy: z.string() })),
})
export type Rehearsal = z.output<typeof Rehearsal>

export type Rehearsed = { readonly executor: string; readonly rehearsal: Rehearsal }

/** "llama computes by CUDA, 812 tokens a second" */
export function computesText({ executor, rehearsal: { computesBy, tokensPerSecond } }: Rehearsed): string {
  if (computesBy === null) return `${executor} does not compute on it`
  return `${executor} computes by ${computesBy}${tokensPerSecond === null ? '' : `, ${tokensPerSecond} tokens a second`}`
}

/** Also why not by a better library, or at all. */
export function rehearsalText(rehearsed: Rehearsed): string {
  const failures = rehearsed.rehearsal.failures.map(({ library, message }) => `; not by ${library}: ${open(message)}`)
  return `${computesText(rehearsed)}${failures.join('')}`
}

/** What to do about that; null: there is nothing. */
export function remedyOf({ failures }: Rehearsal): string | null {
  return failures.map(({ library, remedy }) => `for ${library}: ${open(remedy)}`).join('; ') || null
}

/** More follows. */
const open = (sentence: string) => sentence.replace(/\.$/, '')

/** A GPU that could be shared if it could be seen how much VRAM each process has. */
export function isUnwatched(deviceUuid: string, { computesBy, vramMib }: Rehearsal): boolean {
  return deviceUuid.startsWith('GPU-') && computesBy !== null && vramMib === null
}

export const unwatched = {
  message:
    'no shares of it are offered: nvidia-smi does not list the agent’s processes, so nobody could be kept to their VRAM.',
  remedy: 'In a container, start it with --pid=host. Under WSL and on Windows only whole GPUs can be offered.',
}
