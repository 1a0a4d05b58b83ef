import type { Database, Reader, Row, Value } from '@orbyte/server/db/database.ts'
import { sqliteDatabase } from '@orbyte/server/db/sqlite-database.ts'
import type { FileStore } from '@orbyte/server/file-store.ts'
import { NotKeptError } from '@orbyte/server/tasks/reported.ts'
import { DatabaseSync, type DatabaseSyncInstance, type StatementSyncInstance } from '@photostructure/sqlite'
import type { SeededRandom } from './seeded-random.ts'
import { never, type SimulatedProcess } from './simulated-process.ts'

/** How the disk does at the moment. Whoever makes trouble changes it. */
export type DiskHealth = {
  isFull: boolean
  /** A write takes up to this long. */
  writeMsMax: number
  /** How likely a statement or a commit is to fail with an I/O error. */
  errorChance: number
}
export const healthyDisk: DiskHealth = { isFull: false, writeMsMax: 8, errorChance: 0 }

/**
 * What becomes of a process at its next commit: it dies with it undone, or with it on the disk before anybody has heard of it; or
 * the disk cannot say which of both.
 */
export type CommitFate = 'undone' | 'done' | 'in doubt'

/** The market's disk: it outlives the processes that use it. */
export type MarketDisk = {
  readonly health: DiskHealth
  /** How many commits there were: nothing can have changed where this has not. */
  commits(): number
  /** What is committed, for whoever checks. */
  readonly reader: Reader
  look<R extends Row>(sql: string, ...params: Value[]): R[]
  readonly files: ReadonlyMap<string, Uint8Array>
  /** `crash` kills the process. */
  decideNextCommit(fate: CommitFate, crash: () => void): void
  undecided(): void
  databaseFor(process: SimulatedProcess): Database
  fileStoreFor(process: SimulatedProcess): FileStore
}

/** Made by this disk: whoever fails because of it is not to blame. */
class DiskError extends Error {
  readonly errcode: number
  readonly code: string
  constructor(message: string, { errcode, code }: { errcode: number; code: string }) {
    super(message)
    this.errcode = errcode
    this.code = code
  }
}
const sqliteFull = () => new DiskError('database or disk is full', { errcode: 13, code: 'ERR_SQLITE_ERROR' })
const sqliteIoError = () => new DiskError('disk I/O error', { errcode: 10, code: 'ERR_SQLITE_ERROR' })
const sqliteSyncError = () => new DiskError('disk I/O error', { errcode: 1034, code: 'ERR_SQLITE_ERROR' })
const fileError = (isFull: boolean) =>
  isFull
    ? new DiskError('no space left on device', { errcode: 0, code: 'ENOSPC' })
    : new DiskError('input/output error', { errcode: 0, code: 'EIO' })

/** Whether an error is the disk's, or was caused by one, or says that an earlier one has left its mark. */
export function isDiskError(error: unknown): boolean {
  for (let cause = error; cause instanceof Error; cause = cause.cause)
    if (cause instanceof DiskError || cause instanceof NotKeptError) return true
  return false
}

export function createMarketDisk(random: SeededRandom): MarketDisk {
  const sqlite = new DatabaseSync(':memory:')
  const health = { ...healthyDisk }
  const files = new Map<string, Uint8Array>()
  const prepared = new Map<string, StatementSyncInstance>()
  let commits = 0
  let inDoubt = () => {}
  let decided: { fate: CommitFate; crash: () => void } | null = null
  const fails = () => health.errorChance > 0 && random.chance(health.errorChance)
  const writeMs = () => random.integer(0, health.writeMsMax)

  function prepare(sql: string): StatementSyncInstance {
    let statement = prepared.get(sql)
    if (!statement) prepared.set(sql, (statement = sqlite.prepare(sql)))
    return statement
  }

  function look<R extends Row>(sql: string, ...params: Value[]): R[] {
    return prepare(sql).all(...params) as R[]
  }

  /** An error within a commit may be one after which SQLite has rolled it back by itself. */
  function fail(error: DiskError): never {
    if (sqlite.isTransaction && random.chance(0.5)) sqlite.exec('ROLLBACK')
    throw error
  }

  function commit(process: SimulatedProcess) {
    const { fate, crash = () => {} } = decided ?? {}
    decided = null
    if (fate === 'undone') crash()
    if (!process.crosses()) throw new DiskError(`${process.name} is dead`, { errcode: 0, code: 'dead' })
    if (health.isFull) fail(sqliteFull())
    if (fails()) fail(sqliteIoError())
    const isKept = fate !== 'in doubt' || random.chance(0.5)
    sqlite.exec(isKept ? 'COMMIT' : 'ROLLBACK')
    if (isKept) commits++
    if (fate === 'in doubt') {
      inDoubt = crash
      throw sqliteSyncError()
    }
    if (fate === 'done') crash()
    process.crosses()
  }

  /** SQLite as one process has it open: what reaches the disk, and when it breaks. */
  function connectionOf(process: SimulatedProcess): DatabaseSyncInstance {
    const own: Record<string, unknown> = {
      close() {},
      exec: (sql: string) => (sql === 'COMMIT' ? commit(process) : sqlite.exec(sql)),
      prepare(sql: string) {
        const statement = prepare(sql)
        const isWrite = !/^\s*SELECT/i.test(sql)
        const guarded = <A extends unknown[], T>(run: (...params: A) => T) => {
          return (...params: A): T => {
            if (fails()) fail(sqliteIoError())
            // A statement that does not fit into memory writes before the commit does.
            if (health.isFull && isWrite && random.chance(0.02)) fail(sqliteFull())
            return run(...params)
          }
        }
        return {
          get: guarded((...params: Value[]) => statement.get(...params)),
          all: guarded((...params: Value[]) => statement.all(...params)),
          run: guarded((...params: Value[]) => statement.run(...params)),
        }
      },
    }
    return new Proxy(sqlite, {
      get(target, name) {
        const value: unknown = own[String(name)] ?? Reflect.get(target, name)
        return typeof value === 'function' ? (value.bind(target) as unknown) : value
      },
    })
  }

  return {
    health,
    commits: () => commits,
    reader: {
      get: async <R extends Row>(sql: string, ...params: Value[]): Promise<R | undefined> => look<R>(sql, ...params)[0],
      all: async <R extends Row>(sql: string, ...params: Value[]) => look<R>(sql, ...params),
    },
    look,
    files,
    decideNextCommit: (fate, crash) => void (decided = { fate, crash }),
    undecided: () => void (decided = null),
    databaseFor(process) {
      const beforeCommit = () => process.pause(writeMs())
      const onDoubt = () => process.isAlive() && inDoubt()
      const database = sqliteDatabase(connectionOf(process), { beforeCommit, onDoubt })
      const crossing = <T>(ask: () => Promise<T>): Promise<T> => {
        if (!process.crosses()) return never()
        return ask().then(
          (value) => (process.crosses() ? value : never()),
          (error: unknown) => (process.crosses() ? Promise.reject(error as Error) : never()),
        )
      }
      return {
        ...database,
        transaction: (work) => crossing(() => database.transaction(work)),
        read: (work) => crossing(() => database.read(work)),
      }
    },
    fileStoreFor(process) {
      async function access<T>(isWrite: boolean, work: () => T): Promise<T> {
        if (!process.crosses()) return never()
        await process.pause(writeMs())
        if (fails() || (isWrite && health.isFull)) throw fileError(health.isFull)
        const done = work()
        return process.crosses() ? done : never()
      }
      return {
        put: (sha256, bytes) => access(true, () => void files.set(sha256, Uint8Array.from(bytes))),
        get: (sha256) => access(false, () => files.get(sha256) ?? null),
        remove: (sha256) => access(false, () => void files.delete(sha256)),
        async *list() {
          yield* await access(false, () => [...files.keys()])
        },
      }
    },
  }
}
