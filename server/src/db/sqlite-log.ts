import { closeSync, fdatasync, openSync } from 'node:fs'
import type { DatabaseSyncInstance } from '@photostructure/sqlite'

/** The write-ahead log of a database, and how it gets to the disk. */
export type SqliteLog = {
  /** Resolves when all that is committed is on the disk. Rejects where the system cannot say that it is. */
  sync(): Promise<void>
  close(): void
}

/** The connection brings each commit to the disk by itself. */
export const noLog: SqliteLog = { sync: async () => {}, close: () => {} }

/**
 * Takes over from SQLite to bring commits to the disk. With `synchronous=FULL` it waits for the disk within COMMIT, and with it all
 * that the process has to do: a tenth of the market's time on a fast disk, most of it on a busy one. With NORMAL it still syncs
 * whatever a checkpoint needs, in the order that keeps the file whole, but not the log after each commit; that happens here, in a
 * thread of its own, and nobody is answered before. So what is promised is the same.
 */
export function openLog(sqlite: DatabaseSyncInstance): SqliteLog {
  const path = sqlite.location()
  if (path === null) return noLog
  const file = openSync(`${path}-wal`, 'r+')
  sqlite.exec('PRAGMA synchronous=NORMAL')
  return {
    sync: () => new Promise((resolve, reject) => fdatasync(file, (error) => (error ? reject(error) : resolve()))),
    close() {
      sqlite.exec('PRAGMA synchronous=FULL')
      closeSync(file)
    },
  }
}
