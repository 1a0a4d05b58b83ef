import { randomBytes } from 'node:crypto'
import { mkdir, open, readdir, readFile, rename, rm } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import type { Storage } from './outside.ts'

/** A folder that only its owner can read. Files are replaced by renaming, so that a crash leaves the old one or the new one. */
export function systemStorage(folder: string): Storage {
  return {
    async read(name) {
      return await readFile(join(folder, name), 'utf8').catch(nullIfMissing)
    },
    async write(name, text, { durable = false } = {}) {
      const path = join(folder, name)
      const part = `${path}.${randomBytes(4).toString('hex')}.part`
      await mkdir(dirname(path), { recursive: true, mode: 0o700 })
      try {
        const file = await open(part, 'wx', 0o600)
        try {
          await file.writeFile(text)
          if (durable) await file.sync()
        } finally {
          await file.close()
        }
        await rename(part, path)
      } catch (error) {
        await rm(part, { force: true })
        throw error
      }
      if (durable) await syncFolder(dirname(path))
    },
    async remove(name) {
      await rm(join(folder, name), { force: true })
    },
    async list(name) {
      const names = await readdir(join(folder, name)).catch(nullIfMissing)
      return names ?? []
    },
  }
}

/** The new name is durable only with its folder. Windows knows no such thing. */
async function syncFolder(folder: string): Promise<void> {
  if (process.platform === 'win32') return
  const handle = await open(folder)
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}

function nullIfMissing(error: unknown): null {
  if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return null
  throw error
}
