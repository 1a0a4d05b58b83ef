import { DatabaseSync, type DatabaseSyncInstance, type StatementSyncInstance } from '@photostructure/sqlite'
import {
  CommitLostError,
  type Database,
  DatabaseFullError,
  DatabaseInUseError,
  type Reader,
  type Row,
  type Transaction,
  type Value,
} from './database.ts'
import { createBackup } from './sqlite-backup.ts'
import { isBusy, isFull, isInDoubt } from './sqlite-errors.ts'

type Seal = (tx: Transaction) => Promise<void>
type Waiting = {
  work: (tx: Transaction) => Promise<unknown>
  resolve: (value: unknown) => void
  reject: (error: unknown) => void
}

/** How many transactions one commit may hold: bounds how long the first of them waits (about 5 ms at 25 µs each). */
const transactionsPerCommitMax = 200

/**
 * `Database` on one SQLite file. One connection; WAL with `synchronous=FULL`, so that a commit is on disk when it returns.
 * Each transaction is a savepoint within the commit.
 */
export function openSqlite(path: string, options: SqliteOptions = {}): Database {
  const sqlite = new DatabaseSync(path)
  try {
    sqlite.exec(
      'PRAGMA busy_timeout=0; PRAGMA locking_mode=EXCLUSIVE; PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; BEGIN IMMEDIATE; COMMIT',
    )
  } catch (error) {
    sqlite.close()
    throw isBusy(error) ? new DatabaseInUseError(path) : error
  }
  return sqliteDatabase(sqlite, options)
}

/** For tools that look at a file which no server has open. */
export function openSqliteReadOnly(path: string): { reader: Reader; close: () => void } {
  const sqlite = new DatabaseSync(path, { readOnly: true })
  try {
    sqlite.exec('SELECT count(*) FROM sqlite_master')
  } catch (error) {
    sqlite.close()
    throw isBusy(error) ? new DatabaseInUseError(path) : error
  }
  return { reader: connect(sqlite).reader, close: () => sqlite.close() }
}

export type SqliteOptions = {
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
  { beforeCommit = nextTurn, onEffectError = rethrow, onDoubt = throwLater }: SqliteOptions = {},
): Database {
  const connection = connect(sqlite)
  let seal: Seal = async () => {}
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

  const backup = createBackup(sqlite, exclusively)

  /** Goes on whatever happens, and answers everybody; unless nobody knows what happened. */
  async function writeAll() {
    while (waiting.length > 0) {
      const mayBegin = Promise.resolve().then(beforeCommit)
      await Promise.allSettled([mayBegin])
      const batch = waiting.splice(0, transactionsPerCommitMax)
      try {
        await mayBegin
        await exclusively(() => commit(connection, batch, { seal, onEffectError }))
      } catch (error) {
        if (isInDoubt(error)) {
          isInDoubtNow = true
          writing = null
          return onDoubt(error)
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
    read: (work) => (isInDoubtNow ? never() : exclusively(() => work(connection.reader))),
    sealCommits(next) {
      seal = next
    },
    backUp: backup.backUp,
    async close() {
      closed = true
      await backup.finished()
      while (writing) await writing
      await exclusively(async () => letGo(sqlite))
      backup.close()
    },
  }
}

const nextTurn = () => new Promise<void>((resolve) => setImmediate(resolve))
const never = <T>() => new Promise<T>(() => {})
const rethrow = (error: unknown) => {
  throw error
}
const throwLater = (error: unknown) => queueMicrotask(() => rethrow(error))

/**
 * Closes the file and its lock. Closing alone keeps the lock for as long as a prepared statement has not been collected; leaving
 * WAL puts everything into the one file, and the first read after that gives the lock back.
 */
function letGo(sqlite: DatabaseSyncInstance) {
  try {
    sqlite.exec('PRAGMA journal_mode=DELETE; PRAGMA locking_mode=NORMAL; SELECT count(*) FROM sqlite_master')
  } finally {
    sqlite.close()
  }
}

type Connection = {
  exec(sql: string): void
  /** False within a commit: SQLite has rolled it back by itself, as it may on a full disk, an I/O error or a lack of memory. */
  inCommit(): boolean
  reader: Reader
  run(sql: string, params: Value[]): number
}

function connect(sqlite: DatabaseSyncInstance): Connection {
  const statements = new Map<string, StatementSyncInstance>()
  const prepare = (sql: string) => {
    let statement = statements.get(sql)
    if (!statement) statements.set(sql, (statement = sqlite.prepare(sql)))
    return statement
  }
  return {
    exec: (sql) => sqlite.exec(sql),
    inCommit: () => sqlite.isTransaction,
    reader: {
      get: async <R extends Row>(sql: string, ...params: Value[]) => prepare(sql).get(...params) as R | undefined,
      all: async <R extends Row>(sql: string, ...params: Value[]) => prepare(sql).all(...params) as R[],
    },
    run: (sql, params) => Number(prepare(sql).run(...params).changes),
  }
}

/** Throws if nothing of the batch is stored; else all of it is, but for those whose promise is rejected here. */
async function commit(
  connection: Connection,
  batch: Waiting[],
  { seal, onEffectError }: { seal: Seal; onEffectError: (error: unknown) => void },
) {
  const effects: (() => void)[] = []
  const outcomes: (() => void)[] = []
  try {
    connection.exec('BEGIN IMMEDIATE')
    for (const { work, resolve, reject } of batch) {
      try {
        const value = await savepoint(connection, work, effects)
        outcomes.push(() => resolve(value))
      } catch (error) {
        if (isFull(error) || error instanceof CommitLostError) throw error
        outcomes.push(() => reject(error))
      }
    }
    await seal(transactionOn(connection, effects))
    connection.exec('COMMIT')
  } catch (error) {
    if (connection.inCommit()) connection.exec('ROLLBACK')
    throw isFull(error) || isFull((error as Error).cause) ? new DatabaseFullError(error) : error
  }
  for (const effect of effects) {
    try {
      effect()
    } catch (error) {
      queueMicrotask(() => onEffectError(error))
    }
  }
  for (const settle of outcomes) settle()
}

async function savepoint<T>(connection: Connection, work: (tx: Transaction) => Promise<T>, effects: (() => void)[]) {
  const own: (() => void)[] = []
  assertInCommit(connection)
  connection.exec('SAVEPOINT one')
  let value: T
  try {
    value = await work(transactionOn(connection, own))
  } catch (error) {
    if (isFull(error)) throw error
    endSavepoint(connection, 'ROLLBACK TO one; RELEASE one', error)
    throw error
  }
  endSavepoint(connection, 'RELEASE one')
  effects.push(...own)
  return value
}

/** Where that fails, nobody knows what the commit holds: all of it has to go. `cause`: what made the transaction fail. */
function endSavepoint(connection: Connection, sql: string, cause?: unknown) {
  try {
    connection.exec(sql)
  } catch (error) {
    throw new CommitLostError(cause ?? error)
  }
}

/** Outside of the commit each statement and savepoint would be a commit of its own. */
function assertInCommit(connection: Connection) {
  if (!connection.inCommit()) throw new CommitLostError(new Error('SQLite has rolled it back'))
}

function transactionOn(connection: Connection, effects: (() => void)[]): Transaction {
  const within = <T>(statement: () => T): T => {
    assertInCommit(connection)
    return statement()
  }
  return {
    get: async (sql, ...params) => within(() => connection.reader.get(sql, ...params)),
    all: async (sql, ...params) => within(() => connection.reader.all(sql, ...params)),
    run: async (sql, ...params) => within(() => connection.run(sql, params)),
    afterCommit: (effect) => effects.push(effect),
  }
}
