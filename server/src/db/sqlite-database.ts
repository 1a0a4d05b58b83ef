import { DatabaseSync, type DatabaseSyncInstance } from '@photostructure/sqlite'
import { type Database, DatabaseInUseError, type Reader, type Transaction } from './database.ts'
import { createBackup } from './sqlite-backup.ts'
import {
  type CheckpointThread,
  checkpointsOfConnection,
  createCheckpoints,
  startCheckpointThread,
} from './sqlite-checkpoints.ts'
import { commit, type Committed, type Waiting } from './sqlite-commit.ts'
import { connect, readerOn } from './sqlite-connection.ts'
import { isBusy, isInDoubt, LogNotSyncedError } from './sqlite-errors.ts'
import { type DatabaseLock, lockDatabase } from './sqlite-lock.ts'
import { noLog, openLog, type SqliteLog } from './sqlite-log.ts'

/** How many transactions one commit may hold, a hundred tasks: bounds how long the first of them waits (15 ms at 30 µs each). */
const transactionsPerCommitMax = 500

/**
 * From how many bytes on the log is carried over into the file. Each commit writes the ends of the same tables and indexes anew: the
 * longer the log, the fewer of them are carried over.
 */
const defaultLogBytesMax = 32_768_000
/**
 * Of a new file, in bytes; one that is there keeps its own. A commit writes the ends of some twenty tables and indexes: twice the
 * page costs less than two, since what a page costs is mostly to find and to write one.
 */
const pageBytes = 8_192

/**
 * `Database` on one SQLite file: one connection, WAL. A commit is on the disk when it is answered, as with `synchronous=FULL`; only
 * that the log is brought there, and carried over into the file, beside the thread that everything else runs on (sqlite-log.ts,
 * sqlite-checkpoints.ts).
 */
export function openSqlite(path: string, options: SqliteOptions = {}): Database {
  const sqlite = new DatabaseSync(path)
  // Where it really lies: links to it have no names of their own for what lies beside it.
  const location = sqlite.location()
  let lock: DatabaseLock | null = null
  try {
    if (location === null) return sqliteDatabase(sqlite, options)
    lock = lockDatabase(location)
    sqlite.exec(
      `PRAGMA busy_timeout=0; PRAGMA page_size=${pageBytes}; PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA wal_autocheckpoint=0; PRAGMA cache_size=-65536; PRAGMA temp_store=MEMORY; BEGIN IMMEDIATE; COMMIT`,
    )
    const log = openLog(sqlite)
    return sqliteDatabase(sqlite, { log, checkpointThread: startCheckpointThread(location), lock, ...options })
  } catch (error) {
    sqlite.close()
    lock?.release()
    throw isBusy(error) ? new DatabaseInUseError(path) : error
  }
}

/** For tools that look at a file, as it is at this moment; a server may have it open. */
export function openSqliteReadOnly(path: string): { reader: Reader; close: () => void } {
  const sqlite = new DatabaseSync(path, { readOnly: true })
  try {
    sqlite.exec('BEGIN; SELECT count(*) FROM sqlite_master')
  } catch (error) {
    sqlite.close()
    throw isBusy(error) ? new DatabaseInUseError(path) : error
  }
  const close = () => {
    // A statement that is not collected yet keeps a closed connection, and with it what it reads.
    sqlite.exec('ROLLBACK')
    sqlite.close()
  }
  return { reader: readerOn(connect(sqlite)), close }
}

export type SqliteOptions = {
  /** Brings commits to the disk. Default: the connection does, before it says that one is done. */
  log?: SqliteLog
  /** Carries the log over into the file, from `logBytesMax` on. Default: the connection does, within commits. */
  checkpointThread?: CheckpointThread
  logBytesMax?: number
  /** Given back once the database is closed. */
  lock?: DatabaseLock
  /** Resolves when the next commit may begin: all that is asked for until then is in it. Default: one turn of the event loop. */
  beforeCommit?: () => Promise<void>
  /** Hears what an effect has thrown: a bug, which stops nothing. Default: it is thrown where nobody catches it. */
  onEffectError?: (error: unknown) => void
  /**
   * Nobody knows whether a commit is on the disk, and only a restart finds out. Whoever hears it ends the process: until then the
   * database answers nobody any more, so that nothing is said which may turn out to be wrong. Default: it is thrown where nobody
   * catches it.
   */
  onDoubt?: (error: unknown) => void
}

export function sqliteDatabase(
  sqlite: DatabaseSyncInstance,
  {
    log = noLog,
    beforeCommit = nextTurn,
    onEffectError = rethrow,
    onDoubt = throwLater,
    checkpointThread: thread,
    logBytesMax = defaultLogBytesMax,
    lock,
  }: SqliteOptions = {},
): Database {
  const connection = connect(sqlite)
  const reader = readerOn(connection)
  const waiting: Waiting[] = []
  let writing: Promise<void> | null = null
  let closed = false
  let isInDoubtNow = false
  let last: Promise<unknown> = Promise.resolve()

  /** One commit or one read at a time: a read never sees half a commit. */
  function exclusively<T>(work: () => Promise<T>): Promise<T> {
    const result = last.then(work)
    last = result.catch(() => {})
    return result
  }

  function doubt(error: unknown) {
    isInDoubtNow = true
    onDoubt(error)
  }

  const checkpoints = thread
    ? createCheckpoints(sqlite, { thread, exclusively, logBytesMax, onDoubt: doubt })
    : checkpointsOfConnection(sqlite, exclusively)
  const backup = createBackup(sqlite, exclusively, checkpoints)

  /** Goes on whatever happens, and answers everybody; unless nobody knows what happened. */
  async function writeAll() {
    while (waiting.length > 0) {
      const mayBegin = Promise.resolve().then(beforeCommit)
      await Promise.allSettled([mayBegin])
      const batch = waiting.splice(0, transactionsPerCommitMax)
      try {
        await mayBegin
        await exclusively(async () => {
          const committed = await commit(connection, batch)
          await synced(log)
          happen(committed, onEffectError)
        })
        checkpoints.committed()
      } catch (error) {
        if (isInDoubt(error)) {
          writing = null
          return doubt(error)
        }
        for (const { reject } of batch) reject(error)
      }
    }
    writing = null
  }

  return {
    transaction<T>(work: (tx: Transaction) => Promise<T>) {
      if (isInDoubtNow) return never<T>()
      if (closed) return Promise.reject(new Error('the database is closed'))
      return new Promise<T>((resolve, reject) => {
        waiting.push({ work, resolve: resolve as (value: unknown) => void, reject })
        writing ??= writeAll()
      })
    },
    read: (work) => (isInDoubtNow ? never() : exclusively(() => work(reader))),
    backUp: backup.backUp,
    async close() {
      closed = true
      await backup.finished()
      while (writing) await writing
      await checkpoints.close()
      log.close()
      await exclusively(async () => letGo(sqlite))
      backup.close()
      lock?.release()
    },
  }
}

async function synced(log: SqliteLog) {
  try {
    await log.sync()
  } catch (error) {
    throw new LogNotSyncedError(error)
  }
}

const nextTurn = () => new Promise<void>((resolve) => setImmediate(resolve))
const never = <T>() => new Promise<T>(() => {})
const rethrow = (error: unknown) => {
  throw error
}
const throwLater = (error: unknown) => queueMicrotask(() => rethrow(error))

/** Effects first, so that whoever is answered finds them done. */
function happen({ effects, answers }: Committed, onEffectError: (error: unknown) => void) {
  for (const effect of effects) {
    try {
      effect()
    } catch (error) {
      queueMicrotask(() => onEffectError(error))
    }
  }
  for (const answer of answers) answer()
}

/** Leaves everything in the one file, unless somebody is looking at it: then the log stays beside it until the next start. */
function letGo(sqlite: DatabaseSyncInstance) {
  try {
    sqlite.exec('PRAGMA journal_mode=DELETE')
  } catch (error) {
    if (!isBusy(error)) throw error
  } finally {
    sqlite.close()
  }
}
