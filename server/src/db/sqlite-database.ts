import { DatabaseSync, type DatabaseSyncInstance, type StatementSyncInstance } from '@photostructure/sqlite'
import {
  type Database,
  DatabaseFullError,
  DatabaseInUseError,
  type Reader,
  type Row,
  type Transaction,
  type Value,
} from './database.ts'
import { createBackup } from './sqlite-backup.ts'
import { isBusy, isFull } from './sqlite-errors.ts'

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
export function openSqlite(path: string): Database {
  const sqlite = new DatabaseSync(path)
  try {
    sqlite.exec(
      'PRAGMA busy_timeout=0; PRAGMA locking_mode=EXCLUSIVE; PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; BEGIN IMMEDIATE; COMMIT',
    )
  } catch (error) {
    sqlite.close()
    throw isBusy(error) ? new DatabaseInUseError(path) : error
  }
  return sqliteDatabase(sqlite)
}

/** For tools that look at a file which no server has open. */
export function openSqliteReadOnly(path: string): { reader: Reader; close: () => void } {
  const sqlite = new DatabaseSync(path, { readOnly: true })
  return { reader: connect(sqlite).reader, close: () => sqlite.close() }
}

export type SqliteOptions = {
  /** Resolves when the next commit may begin: all that is asked for until then is in it. Default: one turn of the event loop. */
  beforeCommit?: () => Promise<void>
}

export function sqliteDatabase(
  sqlite: DatabaseSyncInstance,
  { beforeCommit = nextTurn }: SqliteOptions = {},
): Database {
  const connection = connect(sqlite)
  let seal: (tx: Transaction) => Promise<void> = async () => {}
  let waiting: Waiting[] = []
  let writing: Promise<void> | null = null
  let closed = false
  let last: Promise<unknown> = Promise.resolve()

  /** One commit or one read at a time: a read never sees half a commit. */
  function exclusively<T>(work: () => Promise<T>): Promise<T> {
    const result = last.then(work)
    last = result.catch(() => {})
    return result
  }

  const backup = createBackup(sqlite, exclusively)

  async function writeAll() {
    while (waiting.length > 0) {
      await beforeCommit()
      const batch = waiting.slice(0, transactionsPerCommitMax)
      waiting = waiting.slice(batch.length)
      await exclusively(() => commit(connection, batch, seal))
    }
    writing = null
  }

  return {
    transaction<T>(work: (tx: Transaction) => Promise<T>) {
      if (closed) return Promise.reject(new Error('the database is closed'))
      return new Promise<T>((resolve, reject) => {
        waiting.push({ work, resolve: resolve as (value: unknown) => void, reject })
        writing ??= writeAll()
      })
    },
    read: (work) => exclusively(() => work(connection.reader)),
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
    reader: {
      get: async <R extends Row>(sql: string, ...params: Value[]) => prepare(sql).get(...params) as R | undefined,
      all: async <R extends Row>(sql: string, ...params: Value[]) => prepare(sql).all(...params) as R[],
    },
    run: (sql, params) => Number(prepare(sql).run(...params).changes),
  }
}

async function commit(connection: Connection, batch: Waiting[], seal: (tx: Transaction) => Promise<void>) {
  const effects: (() => void)[] = []
  const outcomes: (() => void)[] = []
  try {
    connection.exec('BEGIN IMMEDIATE')
    for (const { work, resolve, reject } of batch) {
      try {
        const value = await savepoint(connection, work, effects)
        outcomes.push(() => resolve(value))
      } catch (error) {
        if (isFull(error)) throw error
        outcomes.push(() => reject(error))
      }
    }
    await seal(transactionOn(connection, effects))
    connection.exec('COMMIT')
  } catch (error) {
    rollBack(connection)
    const failure = isFull(error) ? new DatabaseFullError(error) : error
    for (const { reject } of batch) reject(failure)
    return
  }
  for (const effect of effects) effect()
  for (const settle of outcomes) settle()
}

async function savepoint<T>(connection: Connection, work: (tx: Transaction) => Promise<T>, effects: (() => void)[]) {
  const own: (() => void)[] = []
  connection.exec('SAVEPOINT one')
  try {
    const value = await work(transactionOn(connection, own))
    connection.exec('RELEASE one')
    effects.push(...own)
    return value
  } catch (error) {
    if (!isFull(error)) connection.exec('ROLLBACK TO one; RELEASE one')
    throw error
  }
}

function transactionOn(connection: Connection, effects: (() => void)[]): Transaction {
  return {
    ...connection.reader,
    run: async (sql, ...params) => connection.run(sql, params),
    afterCommit: (effect) => effects.push(effect),
  }
}

function rollBack(connection: Connection) {
  try {
    connection.exec('ROLLBACK')
  } catch {
    // SQLite has rolled back by itself (a full disk does that).
  }
}
