import { createWriteStream, existsSync } from 'node:fs'
import { chmod, copyFile, mkdir, open, readdir, rename, rm } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { backupNames } from '@orbyte/protocol'
import { BackupError, keyNames, ledgerKeyState, type LedgerKeyState, readBackupKey, writeNew } from './backup-keys.ts'
import { untar } from './tar.ts'

export type Received = { files: number; bytes: number; bytesOfDatabase: number }

/** Unpacks an archive of a backup into `folder`, which is made. Everything in it is readable by its owner only. */
export async function unpackBackup(
  archive: AsyncIterable<Uint8Array>,
  folder: string,
  onProgress: (received: Received) => void = () => {},
): Promise<Received> {
  await mkdir(folder, { mode: 0o700 })
  const received: Received = { files: 0, bytes: 0, bytesOfDatabase: 0 }
  for await (const { name, sizeBytes, body } of untar(archive)) {
    if (!isPartOfBackup(name)) throw new BackupError(`the market sent ${JSON.stringify(name)}, which no backup holds`)
    if (name === backupNames.database) received.bytesOfDatabase = sizeBytes
    await mkdir(dirname(join(folder, name)), { recursive: true, mode: 0o700 })
    const counted = async function* () {
      for await (const chunk of body) {
        received.bytes += chunk.length
        onProgress(received)
        yield chunk
      }
    }
    await pipeline(counted, createWriteStream(join(folder, name), { flags: 'wx', mode: 0o600, flush: true }))
    if (name.startsWith(`${backupNames.files}/`)) received.files++
  }
  await syncFolder(folder)
  return received
}

const isPartOfBackup = (name: string) =>
  name === backupNames.database || name === backupNames.manifest || /^files\/[0-9a-f]{2}\/[0-9a-f]{64}$/.test(name)

/**
 * Puts a backup where a market will find it: the database at `databasePath`, the files and, where the backup has them, the keys
 * beside it. Overwrites nothing. The database comes last, under its name only when it is whole. Verify the backup first.
 */
export async function restoreBackup(folder: string, databasePath: string): Promise<LedgerKeyState> {
  const keys = existsSync(join(folder, backupNames.keys)) ? keyNames : []
  const taken = ['', '-wal', '-journal', '.files', ...keys.map((name) => `.${name}`)]
    .map((suffix) => databasePath + suffix)
    .filter((path) => existsSync(path))
  if (taken.length > 0)
    throw new BackupError(`Nothing is overwritten. Give another path, or move away what is there: ${taken.join(', ')}`)
  const state = await ledgerKeyState(folder, databasePath)
  if (state === 'wrong')
    throw new BackupError(
      `${databasePath}.ledger-key is the key of another market: the ledger cannot go on with it. Move it away.`,
    )
  await mkdir(dirname(databasePath), { recursive: true })
  await copyFiles(join(folder, backupNames.files), `${databasePath}.files`)
  for (const name of keys) {
    const key = await readBackupKey(folder, name)
    if (key !== null) await writeNew(`${databasePath}.${name}`, key)
  }
  const partial = `${databasePath}.partial`
  await copyFile(join(folder, backupNames.database), partial)
  await chmod(partial, 0o600)
  await syncFile(partial)
  await rename(partial, databasePath)
  await syncFolder(dirname(databasePath))
  return state
}

/** Two levels deep, by hash. Renamed when all are there, so that a restore which broke off is not taken for a whole one. */
async function copyFiles(from: string, to: string) {
  if (!existsSync(from)) return
  const partial = `${to}.partial`
  await rm(partial, { recursive: true, force: true })
  for (const part of await readdir(from)) {
    await mkdir(join(partial, part), { recursive: true, mode: 0o700 })
    for (const name of await readdir(join(from, part))) {
      const path = join(partial, part, basename(name))
      await copyFile(join(from, part, name), path)
      await syncFile(path)
    }
  }
  await rename(partial, to)
}

async function syncFile(path: string) {
  const file = await open(path, 'r+')
  try {
    await file.sync()
  } finally {
    await file.close()
  }
}

/** New names are durable only with their folder. Windows knows no such thing. */
async function syncFolder(folder: string) {
  if (process.platform === 'win32') return
  const handle = await open(folder)
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}
