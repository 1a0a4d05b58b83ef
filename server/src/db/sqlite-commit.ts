import { CommitLostError, DatabaseFullError, type Row, type Transaction, type Value } from './database.ts'
import type { Connection } from './sqlite-connection.ts'
import { isFull } from './sqlite-errors.ts'

/** A transaction that waits for the next commit. */
export type Waiting = {
  readonly work: (tx: Transaction) => Promise<unknown>
  readonly resolve: (value: unknown) => void
  readonly reject: (error: unknown) => void
}

/** From so many on it pays to do without savepoints. */
const manyTransactions = 8

/**
 * One commit, and the transactions that share it, one after the other. Throws if nothing of it is stored; else all of it is, but
 * for those whose promise is rejected here. Resolves with what is to happen now that it is stored.
 */
export async function commit(connection: Connection, batch: readonly Waiting[]): Promise<Committed> {
  const tx = new SqliteTransaction(connection)
  try {
    connection.exec('BEGIN IMMEDIATE')
    const together = batch.length < manyTransactions ? null : await runTogether(connection, tx, batch)
    const answers = together ?? (await runApart(connection, tx, batch))
    for (const work of tx.seals) await work()
    connection.exec('COMMIT')
    return { effects: tx.effects, answers }
  } catch (error) {
    tx.undoTo(nothingDone)
    if (connection.inCommit()) connection.exec('ROLLBACK')
    throw isFull(error) || isFull((error as Error).cause) ? new DatabaseFullError(error) : error
  }
}

/** In the order in which they are to be called. */
export type Committed = { readonly effects: readonly (() => void)[]; readonly answers: readonly (() => void)[] }

/**
 * Without savepoints: one keeps a copy of each page that is written to after it, which is a quarter of what the statements of a
 * commit cost. A transaction that fails before it has written anything is refused alone. Null, and nothing is done: one failed
 * that had written, so they have to be run apart.
 */
async function runTogether(connection: Connection, tx: SqliteTransaction, batch: readonly Waiting[]) {
  const answers: (() => void)[] = []
  for (const { work, resolve, reject } of batch) {
    const before = tx.mark()
    assertInCommit(connection)
    try {
      const value = await work(tx)
      answers.push(() => resolve(value))
    } catch (error) {
      if (isFatal(error)) throw error
      if (!connection.inCommit()) throw new CommitLostError(error)
      if (tx.hasWrittenSince(before)) {
        tx.undoTo(nothingDone)
        connection.exec('ROLLBACK')
        connection.exec('BEGIN IMMEDIATE')
        return null
      }
      tx.undoTo(before)
      answers.push(() => reject(error))
    }
  }
  return answers
}

/** Each in a savepoint of its own. */
async function runApart(connection: Connection, tx: SqliteTransaction, batch: readonly Waiting[]) {
  const answers: (() => void)[] = []
  for (const { work, resolve, reject } of batch) {
    try {
      const value = await savepoint(connection, tx, work)
      answers.push(() => resolve(value))
    } catch (error) {
      if (isFatal(error)) throw error
      answers.push(() => reject(error))
    }
  }
  return answers
}

/** No transaction of the commit can be saved. */
const isFatal = (error: unknown) => isFull(error) || error instanceof CommitLostError

async function savepoint<T>(connection: Connection, tx: SqliteTransaction, work: (tx: Transaction) => Promise<T>) {
  const before = tx.mark()
  assertInCommit(connection)
  connection.exec('SAVEPOINT one')
  let value: T
  try {
    value = await work(tx)
  } catch (error) {
    tx.undoTo(before)
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

/** How far a commit had come. */
type Mark = { readonly effects: number; readonly seals: number; readonly undos: number; readonly writes: number }
const nothingDone: Mark = { effects: 0, seals: 0, undos: 0, writes: 0 }

/** What the transactions of one commit write through, in turn. */
class SqliteTransaction implements Transaction {
  readonly effects: (() => void)[] = []
  readonly seals: (() => Promise<void>)[] = []
  readonly #undos: (() => void)[] = []
  readonly #connection: Connection
  #writes = 0
  #hasFailed = false

  constructor(connection: Connection) {
    this.#connection = connection
  }

  async get<R extends Row>(sql: string, ...params: Value[]): Promise<R | undefined> {
    // An update may return what it has changed.
    if (!sql.startsWith('SELECT')) this.#writes++
    return this.#do<R | undefined>('get', sql, params)
  }

  async all<R extends Row>(sql: string, ...params: Value[]): Promise<R[]> {
    return this.#do<R[]>('all', sql, params)
  }

  async run(sql: string, ...params: Value[]): Promise<number> {
    this.#writes++
    return this.#do<number>('run', sql, params)
  }

  /** SQLite rolls a commit back by itself only where a statement fails: asked before each, it would cost as much as a small one. */
  #do<T>(method: 'get' | 'all' | 'run', sql: string, params: readonly Value[]): T {
    if (this.#hasFailed) assertInCommit(this.#connection)
    try {
      return this.#connection[method](sql, params) as T
    } catch (error) {
      this.#hasFailed = true
      throw error
    }
  }

  afterCommit(effect: () => void) {
    this.effects.push(effect)
  }

  sealWith(work: () => Promise<void>) {
    this.seals.push(work)
  }

  onUndo(undo: () => void) {
    this.#undos.push(undo)
  }

  mark(): Mark {
    const [effects, seals, undos] = [this.effects.length, this.seals.length, this.#undos.length]
    return { effects, seals, undos, writes: this.#writes }
  }

  hasWrittenSince({ writes }: Mark): boolean {
    return this.#writes > writes
  }

  /** In memory; what is written SQLite undoes. */
  undoTo({ effects, seals, undos }: Mark) {
    this.effects.length = effects
    this.seals.length = seals
    for (const undo of this.#undos.splice(undos).reverse()) undo()
  }
}
