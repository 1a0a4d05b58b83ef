import { CommitLostError, DatabaseFullError, type Row, type Transaction, type Value } from './database.ts'
import type { Connection } from './sqlite-connection.ts'
import { isFull } from './sqlite-errors.ts'

/** A transaction that waits for the next commit. */
export type Waiting = {
  readonly work: (tx: Transaction) => Promise<unknown>
  readonly resolve: (value: unknown) => void
  readonly reject: (error: unknown) => void
}
export type Seal = (tx: Transaction) => Promise<void>

/**
 * One commit, and the transactions that share it, one after the other, each a savepoint. Throws if nothing of it is stored; else
 * all of it is, but for those whose promise is rejected here. Resolves with what is to happen now that it is stored.
 */
export async function commit(connection: Connection, batch: readonly Waiting[], seal: Seal): Promise<Committed> {
  const tx = new SqliteTransaction(connection)
  const answers: (() => void)[] = []
  try {
    connection.exec('BEGIN IMMEDIATE')
    for (const { work, resolve, reject } of batch) {
      try {
        const value = await savepoint(connection, tx, work)
        answers.push(() => resolve(value))
      } catch (error) {
        if (isFull(error) || error instanceof CommitLostError) throw error
        answers.push(() => reject(error))
      }
    }
    await seal(tx)
    connection.exec('COMMIT')
  } catch (error) {
    tx.undoFrom(0)
    if (connection.inCommit()) connection.exec('ROLLBACK')
    throw isFull(error) || isFull((error as Error).cause) ? new DatabaseFullError(error) : error
  }
  return { effects: tx.effects, answers }
}

/** In the order in which they are to be called. */
export type Committed = { readonly effects: readonly (() => void)[]; readonly answers: readonly (() => void)[] }

async function savepoint<T>(connection: Connection, tx: SqliteTransaction, work: (tx: Transaction) => Promise<T>) {
  const effectsBefore = tx.effects.length
  const undosBefore = tx.undos.length
  assertInCommit(connection)
  connection.exec('SAVEPOINT one')
  let value: T
  try {
    value = await work(tx)
  } catch (error) {
    tx.effects.length = effectsBefore
    tx.undoFrom(undosBefore)
    if (isFull(error)) throw error
    endSavepoint(connection, 'ROLLBACK TO one; RELEASE one', error)
    throw error
  }
  endSavepoint(connection, 'RELEASE one')
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

/** What the transactions of one commit write through, in turn. */
class SqliteTransaction implements Transaction {
  readonly effects: (() => void)[] = []
  readonly undos: (() => void)[] = []
  readonly #connection: Connection

  constructor(connection: Connection) {
    this.#connection = connection
  }

  async get<R extends Row>(sql: string, ...params: Value[]): Promise<R | undefined> {
    assertInCommit(this.#connection)
    return this.#connection.get<R>(sql, params)
  }

  async all<R extends Row>(sql: string, ...params: Value[]): Promise<R[]> {
    assertInCommit(this.#connection)
    return this.#connection.all<R>(sql, params)
  }

  async run(sql: string, ...params: Value[]): Promise<number> {
    assertInCommit(this.#connection)
    return this.#connection.run(sql, params).changes
  }

  async insert(sql: string, ...params: Value[]): Promise<number> {
    assertInCommit(this.#connection)
    return this.#connection.run(sql, params).lastRowId
  }

  afterCommit(effect: () => void) {
    this.effects.push(effect)
  }

  onUndo(undo: () => void) {
    this.undos.push(undo)
  }

  undoFrom(first: number) {
    for (const undo of this.undos.splice(first).reverse()) undo()
  }
}
