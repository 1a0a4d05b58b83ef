import { mkdir, open, readdir, readFile, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { FileStore } from './file-store.ts'

/** Files in a folder, two levels deep by hash. Written beside and renamed, so that a name never shows half a file. */
export function folderFileStore(folder: string): FileStore {
  const pathOf = (sha256: string) => join(folder, sha256.slice(0, 2), sha256)
  let written = 0
  return {
    async put(sha256, bytes) {
      const path = pathOf(sha256)
      await mkdir(join(folder, sha256.slice(0, 2)), { recursive: true })
      const temporary = `${path}.${process.pid}-${written++}`
      const file = await open(temporary, 'w', 0o600)
      try {
        await file.writeFile(bytes)
        await file.sync()
      } finally {
        await file.close()
      }
      await rename(temporary, path)
    },
    async get(sha256) {
      try {
        return await readFile(pathOf(sha256))
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null
        throw error
      }
    },
    async remove(sha256) {
      await rm(pathOf(sha256), { force: true })
    },
    async *list() {
      for (const prefix of await namesIn(folder))
        for (const name of await namesIn(join(folder, prefix))) if (/^[0-9a-f]{64}$/.test(name)) yield name
    },
  }
}

/** Nothing, where there is no such folder yet. */
async function namesIn(folder: string): Promise<string[]> {
  try {
    return await readdir(folder)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []
    throw error
  }
}

export function memoryFileStore(): FileStore {
  const files = new Map<string, Uint8Array>()
  return {
    put: async (sha256, bytes) => void files.set(sha256, Uint8Array.from(bytes)),
    get: async (sha256) => files.get(sha256) ?? null,
    remove: async (sha256) => void files.delete(sha256),
    async *list() {
      yield* [...files.keys()]
    },
  }
}
