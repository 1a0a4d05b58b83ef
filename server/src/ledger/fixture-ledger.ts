import { DatabaseSync, type DatabaseSyncInstance } from '@photostructure/sqlite'
import { micros } from '@orbyte/protocol'
import type { Database } from '../db/database.ts'
import { migrate } from '../db/migrations.ts'
import { sqliteDatabase } from '../db/sqlite-database.ts'
import { manualClock } from '../manual-clock.ts'
import { ledgerKeyFrom } from './ledger-key.ts'
import { available, createLedger, type Ledger } from './ledger-service.ts'

/** A ledger on a database in memory, and what is below that. */
export async function freshLedger(): Promise<{ database: Database; ledger: Ledger; sqlite: DatabaseSyncInstance }> {
  const sqlite = new DatabaseSync(':memory:')
  const database = sqliteDatabase(sqlite)
  await migrate(database, { backupPath: null })
  const ledger = createLedger({ database, clock: manualClock(1_700_000_000_000) }, ledgerKeyFrom('a secret for tests'))
  await database.transaction((tx) => ledger.checkKey(tx))
  return { database, ledger, sqlite }
}

export const deposit = (userId: string, amount: number, key: string) => ({
  kind: 'deposit' as const,
  debit: 'external',
  credit: available(userId),
  amount: micros(amount),
  key,
})
