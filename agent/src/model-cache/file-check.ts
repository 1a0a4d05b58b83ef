import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { stat } from 'node:fs/promises'
import { pipeline } from 'node:stream/promises'

export type ExpectedFile = { readonly sha256: string; readonly sizeBytes: number }

/** Tells whether a file is the expected one. Its hash is computed once a process, as long as it is not changed. */
export interface FileCheck {
  isExpected(path: string, expected: ExpectedFile, signal: AbortSignal): Promise<boolean>
}

export function createFileCheck(): FileCheck {
  const hashes = new Map<string, { readonly version: string; readonly sha256: string }>()

  return {
    async isExpected(path, expected, signal) {
      const found = await stat(path).catch(() => null)
      // The size is looked at first: it costs nothing, and hashing 40 GB costs minutes.
      if (found === null || !found.isFile() || found.size !== expected.sizeBytes) return false
      const version = `${found.mtimeMs} ${found.size}`
      const known = hashes.get(path)
      if (known?.version === version) return known.sha256 === expected.sha256
      const sha256 = await hashFile(path, signal)
      hashes.set(path, { version, sha256 })
      return sha256 === expected.sha256
    },
  }
}

export async function hashFile(path: string, signal: AbortSignal): Promise<string> {
  const hash = createHash('sha256')
  await pipeline(createReadStream(path, { highWaterMark: 2 ** 20 }), hash, { signal })
  return hash.digest('hex')
}
