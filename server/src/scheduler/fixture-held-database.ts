import type { Database } from '../db/database.ts'
import { openSqlite } from '../db/sqlite-database.ts'

export type HeldDatabase = Database & {
  /** From now on nothing is committed, and all that is asked for waits for one commit. */
  hold(): void
  /** Lets so many commits go, and holds the next. */
  letGo(commits?: number): void
  /** The next transaction that is asked for fails, alone. */
  failNext(): void
  /** Resolves once so many transactions have been asked for since it was held. */
  asked(count: number): Promise<void>
  /** From now on what is to be read waits. Resolves once something does. */
  holdReads(): Promise<void>
  letReadsGo(): void
}

/** A database in memory whose commits a test holds up, so that it decides what meets in one. */
export function heldDatabase(): HeldDatabase {
  let allowed = Infinity
  let asked = 0
  let areReadsHeld = false
  let reads = 0
  let fails = false
  let waiting: { isSo: () => boolean; resolve: () => void }[] = []
  const look = () => {
    const met = waiting.filter(({ isSo }) => isSo())
    waiting = waiting.filter((one) => !met.includes(one))
    for (const { resolve } of met) resolve()
  }
  const until = (isSo: () => boolean) => {
    const met = new Promise<void>((resolve) => waiting.push({ isSo, resolve }))
    look()
    return met
  }
  const database = openSqlite(':memory:', {
    async beforeCommit() {
      await new Promise<void>((resolve) => setImmediate(resolve))
      await until(() => allowed > 0)
      allowed--
    },
  })
  return {
    ...database,
    transaction(work) {
      asked++
      look()
      const isToFail = fails
      fails = false
      return database.transaction((tx) => (isToFail ? Promise.reject(new Error('as the test wants it')) : work(tx)))
    },
    failNext() {
      fails = true
    },
    async read(work) {
      if (areReadsHeld) reads++
      look()
      await until(() => !areReadsHeld)
      return database.read(work)
    },
    holdReads() {
      areReadsHeld = true
      reads = 0
      return until(() => reads > 0)
    },
    letReadsGo() {
      areReadsHeld = false
      look()
    },
    hold() {
      asked = 0
      allowed = 0
    },
    letGo(commits = Infinity) {
      allowed = commits
      look()
    },
    asked: (count) => until(() => asked >= count),
  }
}
