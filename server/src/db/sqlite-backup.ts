import { closeSync, fstatSync, openSync, read, renameSync, rmSync } from 'node:fs'
import { type FileHandle, open } from 'node:fs/promises'
import { dirname } from 'node:path'
import { promisify } from 'node:util'
import { DatabaseSync, type DatabaseSyncInstance } from '@photostructure/sqlite'
import { DatabaseFullError, DatabaseReadError } from './database.ts'
import type { Checkpoints } from './sqlite-checkpoints.ts'
import { isFull } from './sqlite-errors.ts'

const readAt = promisify(read)
const chunkBytes = 1024 * 1024

type Exclusively = <T>(work: () => Promise<T>) => Promise<T>

/**
 * Copies a database while it is written to. All commits so far are moved from the write-ahead log into the file; then, for as
 * long as the copy takes, commits stay in the log and the file does not change. So the market waits for one checkpoint (a few
 * milliseconds) and not for the copy: `VACUUM INTO` would hold up all commits for its whole length.
 */
export function createBackup(sqlite: DatabaseSyncInstance, exclusively: Exclusively, checkpoints: Checkpoints) {
  const path = sqlite.location()
  /** Open until the database is closed: closing any descriptor of the file gives up the process's locks on it (POSIX). */
  let source: number | null = null
  let last: Promise<void> = Promise.resolve()

  async function copy(to: string) {
    const partial = `${to}.partial`
    rmSync(partial, { force: true })
    if (path === null) {
      await exclusively(async () => sqlite.exec(`VACUUM INTO '${partial.replaceAll("'", "''")}'`))
    } else {
      const from = (source ??= openSync(path, 'r'))
      await checkpoints.without(() => copyFile(sqlite, exclusively, { source: from, to: partial }))
    }
    renameSync(partial, to)
    await syncFolder(dirname(to))
  }

  return {
    /** Written beside and renamed, so that the name never shows half a copy; an earlier one is replaced. One at a time. */
    backUp(to: string): Promise<void> {
      const copied = last.then(() => copy(to)).catch((error: unknown) => fail(`${to}.partial`, error))
      last = copied.catch(() => {})
      return copied
    },
    /** Resolves when none is running. */
    finished: () => last,
    /** After the database is closed. */
    close() {
      if (source !== null) closeSync(source)
      source = null
    },
  }
}

function fail(partial: string, error: unknown): never {
  rmSync(partial, { force: true })
  throw isFull(error) ? new DatabaseFullError(error) : error
}

async function copyFile(
  sqlite: DatabaseSyncInstance,
  exclusively: Exclusively,
  { source, to }: { source: number; to: string },
) {
  const sizeBytes = await exclusively(async () => carryAllOver(sqlite, source))
  const file = await open(to, 'wx', 0o600)
  try {
    await copyBytes(source, file, sizeBytes)
    await file.sync()
  } finally {
    await file.close()
  }
  leaveWal(to)
}

/** Everything that is committed is in the file now. How many bytes it has. */
function carryAllOver(sqlite: DatabaseSyncInstance, source: number): number {
  const result = sqlite.prepare('PRAGMA wal_checkpoint(TRUNCATE)').get() as { busy: number }
  if (result.busy !== 0) throw new DatabaseReadError()
  return fstatSync(source).size
}

async function copyBytes(source: number, target: FileHandle, sizeBytes: number) {
  const buffer = Buffer.allocUnsafe(chunkBytes)
  for (let offset = 0; offset < sizeBytes;) {
    const { bytesRead } = await readAt(source, buffer, 0, Math.min(chunkBytes, sizeBytes - offset), offset)
    if (bytesRead === 0) throw new Error(`the database file ends at ${offset} of ${sizeBytes} bytes`)
    for (let written = 0; written < bytesRead;)
      written += (await target.write(buffer, written, bytesRead - written, offset + written)).bytesWritten
    offset += bytesRead
  }
}

/** So that the copy is one file, which can be read where nothing can be written. */
function leaveWal(path: string) {
  const copy = new DatabaseSync(path)
  try {
    copy.exec('PRAGMA journal_mode=DELETE')
  } finally {
    copy.close()
  }
}

/** The new name is durable only with its folder. Windows knows no such thing. */
async function syncFolder(folder: string) {
  if (process.platform === 'win32') return
  const handle = await open(folder)
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}
