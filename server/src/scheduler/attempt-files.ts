import { createHash } from 'node:crypto'
import { type AgentMessageOf, fileChunkBytesMax } from '@orbyte/protocol'
import type { Limits } from '../config.ts'
import type { AttemptService } from '../tasks/attempt-service.ts'
import { type ActiveAttempt, outputBytesOf } from './attempt-book.ts'

/** Whose fault it is that a file was not taken, and why. */
export type FileProblem = { fault: 'renter' | 'provider'; problem: string }

/** Whether all of it is here, or why it was not taken. */
export type FileTaken = 'whole' | 'unfinished' | FileProblem

/**
 * Takes a file that arrives in chunks. Each chunk is on disk when this resolves, in the database until the file is whole, then
 * with the files; so a restart in the middle loses nothing.
 */
export async function takeFileChunk(
  limits: Pick<Limits, 'outputBytesMax' | 'filesPerTaskMax'>,
  attempts: AttemptService,
  { active, message, runMs }: { active: ActiveAttempt; message: AgentMessageOf<'attempt.file'>; runMs: number },
): Promise<FileTaken> {
  const { name, mime_type, size_bytes, sha256, offset } = message
  const misfit = { fault: 'provider', problem: `the chunks of ${name} do not fit together` } as const
  const announced = active.fileBytes.get(name)
  if (announced !== undefined && announced !== size_bytes) return misfit
  if (announced === undefined && active.fileBytes.size >= limits.filesPerTaskMax)
    return { fault: 'renter', problem: `the output has more than ${limits.filesPerTaskMax} files` }
  active.fileBytes.set(name, size_bytes)
  if (outputBytesOf(active) > limits.outputBytesMax)
    return { fault: 'renter', problem: `the output is larger than ${limits.outputBytesMax} bytes (${name})` }
  const bytes = Buffer.from(message.data, 'base64')
  if (bytes.length > fileChunkBytesMax) return { fault: 'provider', problem: `a chunk of ${name} is too large` }
  const isWhole = offset === 0 && bytes.length === size_bytes
  const whole = isWhole ? bytes : await attempts.filePart(active, { name, offset, bytes, size: size_bytes, runMs })
  if (whole === null) return 'unfinished'
  if (whole === 'misfit') return misfit
  if (createHash('sha256').update(whole).digest('hex') !== sha256)
    return { fault: 'provider', problem: `${name} is not what its hash says` }
  await attempts.file(active, { file: { name, mime_type, size_bytes, sha256 }, bytes: whole, runMs })
  return 'whole'
}
