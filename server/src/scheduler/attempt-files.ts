import { createHash } from 'node:crypto'
import { type AgentMessageOf, fileChunkBytesMax } from '@orbyte/protocol'

type FileMessage = AgentMessageOf<'attempt.file'>
type Part = { bytes: Buffer; received: number; sha256: string }

/**
 * Puts files together from an agent's chunks. A chunk is acknowledged only when its file is on disk, so what is lost in a crash
 * is sent again from the start.
 */
export function createFileAssembly() {
  const parts = new Map<string, Map<string, Part>>()
  return {
    /** The whole file once its last chunk is here, null before, or what is wrong with it. */
    add(message: FileMessage, bytesLeft: number): Buffer | null | { problem: string } {
      const data = Buffer.from(message.data, 'base64')
      if (message.size_bytes > bytesLeft) return { problem: `the output is larger than it may be (${message.name})` }
      if (data.length > fileChunkBytesMax) return { problem: `a chunk of ${message.name} is too large` }
      const files = parts.get(message.attempt_id) ?? new Map<string, Part>()
      parts.set(message.attempt_id, files)
      const known = message.offset === 0 ? undefined : files.get(message.name)
      const part = known ?? { bytes: Buffer.alloc(message.size_bytes), received: 0, sha256: message.sha256 }
      if (
        part.sha256 !== message.sha256 ||
        part.received !== message.offset ||
        message.offset + data.length > part.bytes.length
      )
        return { problem: `the chunks of ${message.name} do not fit together` }
      data.copy(part.bytes, message.offset)
      part.received += data.length
      files.set(message.name, part)
      if (part.received < part.bytes.length) return null
      files.delete(message.name)
      const matches = createHash('sha256').update(part.bytes).digest('hex') === message.sha256
      return matches ? part.bytes : { problem: `${message.name} is not what its hash says` }
    },
    forget: (attemptId: string) => void parts.delete(attemptId),
  }
}
