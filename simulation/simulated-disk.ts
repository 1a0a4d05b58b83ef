import type { Storage } from '@orbyte/agent/outside.ts'
import type { Database, Reader, Row, Value } from '@orbyte/server/db/database.ts'
import { sqliteDatabase } from '@orbyte/server/db/sqlite-database.ts'
import type { FileStore } from '@orbyte/server/file-store.ts'
import { DatabaseSync, type DatabaseSyncInstance } from '@photostructure/sqlite'
import type { SeededRandom } from './seeded-random.ts'
import type { SimulatedProcess } from './simulated-process.ts'

/** How a disk does at the moment. Whoever makes trouble changes it. */
export type DiskHealth = {
  isFull: boolean
  /** A write takes up to this long. */
  writeMsMax: number
}
export const healthyDisk: DiskHealth = { isFull: false, writeMsMax: 8 }

/** The market's disk: it outlives the processes that use it. */
export type MarketDisk = {
  readonly health: DiskHealth
  /** How many commits there were: nothing can have changed where this has not. */
  commits(): number
  /** What is committed, for whoever checks. */
  readonly reader: Reader
  look<R extends Row>(sql: string, ...params: Value[]): R[]
  readonly files: ReadonlyMap<string, Uint8Array>
  /** The process dies at its next commit: with it undone, or with it on the disk before anybody has heard of it. */
  crashAtCommit(when: 'before' | 'after', crash: () => void): void
  databaseFor(process: SimulatedProcess): Database
  fileStoreFor(process: SimulatedProcess): FileStore
}

/** What SQLite says of a full disk (SQLITE_FULL). */
const diskFull = () => Object.assign(new Error('database or disk is full'), { errcode: 13 })
const never = <T>() => new Promise<T>(() => {})

export function createMarketDisk(random: SeededRandom): MarketDisk {
  const sqlite = new DatabaseSync(':memory:')
  const health = { ...healthyDisk }
  const files = new Map<string, Uint8Array>()
  let commits = 0
  let crash: { when: 'before' | 'after'; run: () => void } | null = null
  const crashIf = (when: 'before' | 'after') => {
    if (crash?.when !== when) return
    const { run } = crash
    crash = null
    run()
  }

  /** SQLite as one process has it open: what reaches the disk, and when it breaks. */
  function connectionOf(process: SimulatedProcess): DatabaseSyncInstance {
    const own: Record<string, unknown> = {
      close() {},
      exec(sql: string) {
        if (sql !== 'COMMIT') return sqlite.exec(sql)
        crashIf('before')
        if (!process.isAlive()) throw new Error(`${process.name} is dead and cannot commit`)
        if (health.isFull) throw diskFull()
        sqlite.exec(sql)
        commits++
        crashIf('after')
      },
    }
    return new Proxy(sqlite, {
      get(target, name) {
        const value: unknown = own[String(name)] ?? Reflect.get(target, name)
        return typeof value === 'function' ? (value.bind(target) as unknown) : value
      },
    })
  }
  const writeMs = () => random.integer(0, health.writeMsMax)
  const statements = new Map<string, ReturnType<typeof sqlite.prepare>>()
  function look<R extends Row>(sql: string, ...params: Value[]): R[] {
    let statement = statements.get(sql)
    if (!statement) statements.set(sql, (statement = sqlite.prepare(sql)))
    return statement.all(...params) as R[]
  }

  return {
    health,
    commits: () => commits,
    reader: {
      get: <R extends Row>(sql: string, ...params: Value[]): Promise<R | undefined> =>
        Promise.resolve(look<R>(sql, ...params)[0]),
      all: async <R extends Row>(sql: string, ...params: Value[]) => look<R>(sql, ...params),
    },
    look,
    files,
    crashAtCommit: (when, run) => void (crash = { when, run }),
    databaseFor(process) {
      const database = sqliteDatabase(connectionOf(process), { beforeCommit: () => process.pause(writeMs()) })
      const whileAlive = <T>(ask: () => Promise<T>) => (process.isAlive() ? ask() : never<T>())
      return {
        ...database,
        transaction: (work) => whileAlive(() => database.transaction(work)),
        read: (work) => whileAlive(() => database.read(work)),
      }
    },
    fileStoreFor(process) {
      const later = async () => {
        if (!process.isAlive()) return never<void>()
        await process.pause(writeMs())
      }
      return {
        async put(sha256, bytes) {
          await later()
          if (health.isFull) throw Object.assign(new Error('no space left on device'), { code: 'ENOSPC' })
          files.set(sha256, Uint8Array.from(bytes))
        },
        async get(sha256) {
          await later()
          return files.get(sha256) ?? null
        },
        async remove(sha256) {
          await later()
          files.delete(sha256)
        },
        async *list() {
          await later()
          yield* [...files.keys()]
        },
      }
    },
  }
}

/** The data folder of one machine: it outlives the agents that use it. */
export type MachineDisk = {
  readonly health: DiskHealth
  /** What was not written durably may be gone. */
  loseWhatIsNotDurable(): void
  storageFor(process: SimulatedProcess): Storage
  /** Called before a file is removed. */
  onRemove(listen: (name: string, text: string) => void): void
}

export function createMachineDisk(random: SeededRandom): MachineDisk {
  const health = { ...healthyDisk }
  const files = new Map<string, { text: string; durable: string | null; isDurable: boolean }>()
  let removed: (name: string, text: string) => void = () => {}
  const writeMs = () => random.integer(0, health.writeMsMax)
  return {
    health,
    onRemove: (listen) => (removed = listen),
    loseWhatIsNotDurable() {
      for (const [name, file] of files) {
        if (file.isDurable || random.chance(0.5)) continue
        if (file.durable === null) files.delete(name)
        else files.set(name, { text: file.durable, durable: file.durable, isDurable: true })
      }
    },
    storageFor: (process) => ({
      async read(name) {
        await process.pause(1)
        return files.get(name)?.text ?? null
      },
      async write(name, text, { durable = false } = {}) {
        await process.pause(writeMs())
        if (health.isFull) throw Object.assign(new Error('no space left on device'), { code: 'ENOSPC' })
        const before = files.get(name)?.durable ?? null
        files.set(name, { text, durable: durable ? text : before, isDurable: durable })
      },
      async remove(name) {
        await process.pause(1)
        const file = files.get(name)
        if (file) removed(name, file.text)
        files.delete(name)
      },
      async list(folder) {
        await process.pause(1)
        return [...files.keys()]
          .filter((name) => name.startsWith(`${folder}/`))
          .map((name) => name.slice(folder.length + 1))
      },
    }),
  }
}
