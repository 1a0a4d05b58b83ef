import type { DatabaseSyncInstance, StatementSyncInstance } from '@photostructure/sqlite'
import type { Reader, Row, Value } from './database.ts'

/** One open SQLite file. Each statement is prepared once. */
export type Connection = {
  exec(sql: string): void
  /** False within a commit: SQLite has rolled it back by itself, as it may on a full disk, an I/O error or a lack of memory. */
  inCommit(): boolean
  get<R extends Row>(sql: string, params: readonly Value[]): R | undefined
  all<R extends Row>(sql: string, params: readonly Value[]): R[]
  /** Returns how many rows changed. */
  run(sql: string, params: readonly Value[]): number
}

export function connect(sqlite: DatabaseSyncInstance): Connection {
  const statements = new Map<string, StatementSyncInstance>()
  const prepare = (sql: string) => {
    let statement = statements.get(sql)
    if (!statement) statements.set(sql, (statement = sqlite.prepare(sql)))
    return statement
  }
  return {
    exec: (sql) => sqlite.exec(sql),
    inCommit: () => sqlite.isTransaction,
    get: <R extends Row>(sql: string, params: readonly Value[]) => prepare(sql).get(...params) as R | undefined,
    all: <R extends Row>(sql: string, params: readonly Value[]) => prepare(sql).all(...params) as R[],
    run: (sql, params) => prepare(sql).run(...params).changes,
  }
}

export function readerOn(connection: Connection): Reader {
  return {
    get: async <R extends Row>(sql: string, ...params: Value[]) => connection.get<R>(sql, params),
    all: async <R extends Row>(sql: string, ...params: Value[]) => connection.all<R>(sql, params),
  }
}
