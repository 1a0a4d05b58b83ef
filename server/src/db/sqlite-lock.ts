import { DatabaseSync } from '@photostructure/sqlite'
import { DatabaseInUseError } from './database.ts'
import { isBusy } from './sqlite-errors.ts'

export type DatabaseLock = { release(): void }

/**
 * Keeps a database for one server. The file itself cannot be locked, since two connections of a server write to it; so an empty one
 * beside it is, with SQLite's own lock, which ends with the process however that ends. It stays there: whoever removed it could
 * take it from under somebody who is just locking it.
 */
export function lockDatabase(path: string): DatabaseLock {
  const lock = new DatabaseSync(`${path}-lock`)
  try {
    lock.exec('PRAGMA busy_timeout=0; BEGIN EXCLUSIVE')
  } catch (error) {
    lock.close()
    throw isBusy(error) ? new DatabaseInUseError(path) : error
  }
  return { release: () => lock.close() }
}
