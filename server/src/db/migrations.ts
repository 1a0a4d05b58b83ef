import type { Database, Reader } from './database.ts'
import { migrations } from './schema-steps.ts'

/** A file that a newer version of the market has written. */
export class NewerSchemaError extends Error {
  constructor(found: number, known: number) {
    super(
      `the database has schema version ${found}, and this version of Orbyte knows ${known}: start the newer Orbyte, or restore a backup from before the update`,
    )
    this.name = 'NewerSchemaError'
  }
}

/**
 * Brings the schema up to date, all of it or nothing. A database that holds something is first copied to `backupPath` plus its
 * version, if a path is given.
 */
export async function migrate(
  database: Database,
  { backupPath, steps = migrations }: { backupPath: string | null; steps?: readonly string[][] },
): Promise<void> {
  const before = await database.read((reader) => checkSchemaVersion(reader, steps.length))
  if (before === steps.length) return
  if (before > 0 && backupPath !== null) await database.backUp(`${backupPath}.before-version-${steps.length}`)
  await database.transaction(async (tx) => {
    for (const statements of steps.slice(before)) for (const sql of statements) await tx.run(sql)
    await tx.run(
      `INSERT INTO settings (name, value) VALUES ('schema_version', ?)
       ON CONFLICT (name) DO UPDATE SET value = excluded.value`,
      String(steps.length),
    )
  })
}

/** The version of what is there. Throws where it is newer than what this program knows. */
export async function checkSchemaVersion(reader: Reader, known: number = migrations.length): Promise<number> {
  const found = await schemaVersion(reader)
  if (found > known) throw new NewerSchemaError(found, known)
  return found
}

async function schemaVersion(reader: Reader): Promise<number> {
  const table = await reader.get(`SELECT name FROM sqlite_master WHERE type = 'table' AND name = 'settings'`)
  if (!table) return 0
  const row = await reader.get<{ value: string }>(`SELECT value FROM settings WHERE name = 'schema_version'`)
  return Number(row?.value ?? 0)
}
