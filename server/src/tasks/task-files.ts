import type { Context } from '../context.ts'
import { isFileUsed } from './task-file-store.ts'

export type TaskFiles = ReturnType<typeof createTaskFiles>

/**
 * The files of all tasks, by hash: tasks that produced the same bytes share one. What is done to a hash is done one after the
 * other, so that a file which one task lets go is not removed under another that has just stored it.
 */
export function createTaskFiles({ files, database }: Pick<Context, 'files' | 'database'>) {
  const busy = new Map<string, Promise<unknown>>()

  async function alone<T>(sha256: string, work: () => Promise<T>): Promise<T> {
    const result = (busy.get(sha256) ?? Promise.resolve()).then(work)
    const done = result.catch(() => {})
    busy.set(sha256, done)
    try {
      return await result
    } finally {
      if (busy.get(sha256) === done) busy.delete(sha256)
    }
  }

  async function removeIfUnused(sha256: string): Promise<void> {
    if (!(await database.read((reader) => isFileUsed(reader, sha256)))) await files.remove(sha256)
  }

  return {
    /** Stores the bytes, then runs `write`, which writes whose they are. False, and nothing is kept: `write` said so. */
    keep(sha256: string, { bytes, write }: { bytes: Uint8Array; write: () => Promise<boolean> }): Promise<boolean> {
      return alone(sha256, async () => {
        await files.put(sha256, bytes)
        const isKept = await write()
        if (!isKept) await removeIfUnused(sha256)
        return isKept
      })
    },

    /** Removes those that no task has any more. */
    async letGo(hashes: readonly string[]): Promise<void> {
      for (const sha256 of hashes) await alone(sha256, () => removeIfUnused(sha256))
    },

    /** Removes what a crash has left: files that were stored and belong to nobody. */
    async sweep(): Promise<void> {
      for await (const sha256 of files.list()) await alone(sha256, () => removeIfUnused(sha256))
    },
  }
}
