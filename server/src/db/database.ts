/**
 * The database, as the market's logic sees it: transactions that are durable when they resolve.
 *
 * Transactions that are asked for while another one is being written are committed together (group commit), in the order in
 * which they were asked for; each still succeeds or fails alone. That is what makes full durability fast: one write to the
 * disk pays for all of them.
 *
 * Rules for `work`: it awaits nothing but the transaction; it has no effect outside of the transaction but through
 * `afterCommit`; it may be run again, because the process died before the commit or because another transaction of the commit
 * failed, so it decides on what it reads, not on memory.
 */
export type Value = string | number | null | Uint8Array
export type Row = Record<string, Value>

export type Reader = {
  get<R extends Row>(sql: string, ...params: Value[]): Promise<R | undefined>
  all<R extends Row>(sql: string, ...params: Value[]): Promise<R[]>
}

export type Transaction = Reader & {
  /** Returns how many rows changed. */
  run(sql: string, ...params: Value[]): Promise<number>
  /**
   * Runs once the commit is durable, before the transaction's promise resolves, in commit order. Must not throw: if it does, that
   * is reported, and keeps nothing else from happening.
   */
  afterCommit(effect: () => void): void
  /**
   * Runs at the end of the commit, within it and after all its transactions, if this one has not failed. What throws there fails
   * the whole commit.
   */
  sealWith(work: () => Promise<void>): void
  /**
   * Runs if what the transaction has written so far is undone, because it fails or because the commit is lost; the newest first.
   * For what memory keeps of a commit that is still open. Must not throw.
   */
  onUndo(undo: () => void): void
}

export type Database = {
  transaction<T>(work: (tx: Transaction) => Promise<T>): Promise<T>
  /** Reads what is committed. */
  read<T>(work: (reader: Reader) => Promise<T>): Promise<T>
  /** Writes a consistent copy to `path`. */
  backUp(path: string): Promise<void>
  /** Commits what was asked for, then closes. */
  close(): Promise<void>
}

/** The disk (or the page limit) is full: the transaction changed nothing. */
export class DatabaseFullError extends Error {
  constructor(cause: unknown) {
    super('the database is full', { cause })
    this.name = 'DatabaseFullError'
  }
}

/** Another program reads the file, at a moment that is over: what came since cannot be carried over into it for a copy. */
export class DatabaseReadError extends Error {
  constructor() {
    super('another program reads the database, which cannot be copied meanwhile: try again when it is done')
    this.name = 'DatabaseReadError'
  }
}

/** The database gave up a commit with all its transactions: none of them changed anything. */
export class CommitLostError extends Error {
  constructor(cause: unknown) {
    super('the database gave the commit up: nothing of it is stored', { cause })
    this.name = 'CommitLostError'
  }
}

/** Another server has the file open: one market per file. */
export class DatabaseInUseError extends Error {
  constructor(path: string) {
    super(`another Orbyte server is using ${path}: stop it first, or give this one a file of its own (DATABASE_URL)`)
    this.name = 'DatabaseInUseError'
  }
}

/** `true` and `false` are 1 and 0 in tables. */
export const flag = (value: boolean): number => (value ? 1 : 0)

/** Our own words, like statuses, for `IN (…)`. */
export const words = (values: readonly string[]): string => values.map((value) => `'${value}'`).join(', ')

/** A statement that differs by a word: each text is made once, since a statement is prepared and found by its text. */
export function statementBy<W extends string>(textOf: (word: W) => string): (word: W) => string {
  const texts = new Map<W, string>()
  return (word) => {
    const text = texts.get(word) ?? textOf(word)
    texts.set(word, text)
    return text
  }
}

/**
 * The end of an id, for an index that lists what belongs to somebody: with six of its random characters instead of all thirty,
 * an index takes a fifth of the space, so that fewer pages are written for each task. Rows come in the sequence in which they
 * were added. Who looks for an id compares all of it too, because two may end alike.
 */
export const shortOf = (column: string): string => `substr(${column}, -6)`

/** Where the row with an id is in its table, or beyond the last one if there is none: pages go from there towards the oldest. */
export const placeOf = (table: string, id: string): string =>
  `coalesce((SELECT rowid FROM ${table} WHERE id = ${id}), ${Number.MAX_SAFE_INTEGER})`
