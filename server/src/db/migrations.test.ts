import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { createEventLog } from '../event-store.ts'
import { startTestServer } from '../fixture-server.ts'
import { manualClock } from '../manual-clock.ts'
import { type Database, DatabaseInUseError } from './database.ts'
import { migrate, migrations, NewerSchemaError } from './migrations.ts'
import { openSqlite, openSqliteReadOnly } from './sqlite-database.ts'

let folder: string
let path: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'orbyte-migrations-'))
  path = join(folder, 'orbyte.db')
})
afterEach(() => rmSync(folder, { recursive: true, force: true }))

const secrets = { secretKey: 'a secret key for tests', ledgerKey: 'a ledger key for tests' }
const start = () => startTestServer({ databasePath: path, ...secrets })
const versionOf = (database: Pick<Database, 'read'>) =>
  database.read((reader) => reader.get<{ value: string }>(`SELECT value FROM settings WHERE name = 'schema_version'`))

/** Opens the file, works on it, and closes it. */
async function on<T>(work: (database: Database) => Promise<T>): Promise<T> {
  const database = openSqlite(path)
  try {
    return await work(database)
  } finally {
    await database.close()
  }
}

const known = migrations.length
const next = known + 1
const addColumn = [...migrations, ['ALTER TABLE users ADD COLUMN shoe_size INTEGER', `UPDATE users SET shoe_size = 42`]]

describe('one market a file', () => {
  test('a second server on the same file is refused, with a sentence that says what to do, and the first goes on', async () => {
    const first = await start()
    await expect(start()).rejects.toThrow(DatabaseInUseError)
    await expect(start()).rejects.toThrow(/another Orbyte server is using .*orbyte\.db: stop it first.*DATABASE_URL/)
    await first.newUser('alice@example.org')
    await first.close()
  })

  test('once it has stopped, another one takes over what it knew', async () => {
    const first = await start()
    const { email } = await first.newUser('alice@example.org')
    await first.close()
    const second = await start()
    expect(
      (await second.call('POST /api/auth/register', { body: { email, password: 'another password' } })).status,
    ).toBe(409)
    await second.close()
  })
})

describe('a file of another version', () => {
  test('that is newer is refused, and left as it was', async () => {
    await on((database) => migrate(database, { backupPath: null, steps: addColumn }))
    await expect(start()).rejects.toThrow(NewerSchemaError)
    await expect(start()).rejects.toThrow(
      new RegExp(`schema version ${next}, and this version of Orbyte knows ${known}: start the newer Orbyte`),
    )
    await on(async (database) => expect(await versionOf(database)).toEqual({ value: String(next) }))
  })

  test('that is older is copied first, then brought up to date', async () => {
    const server = await start()
    const { id } = await server.newUser('alice@example.org')
    await server.close()
    await on((database) => migrate(database, { backupPath: path, steps: addColumn }))
    const sizes = await on((database) => database.read((reader) => reader.all('SELECT id, shoe_size FROM users')))
    expect(sizes).toEqual([{ id, shoe_size: 42 }])
    const { reader, close } = openSqliteReadOnly(`${path}.before-version-${next}`)
    expect(await reader.all('SELECT id FROM users')).toEqual([{ id }])
    await expect(reader.all('SELECT shoe_size FROM users')).rejects.toThrow(/no such column/)
    close()
  })

  test('is as it was after a step that fails, and can be tried again', async () => {
    await on((database) => migrate(database, { backupPath: path }))
    const broken = [...addColumn.slice(0, -1), ['ALTER TABLE users ADD COLUMN shoe_size INTEGER', 'CREATE NONSENSE']]
    for (let tries = 0; tries < 2; tries++)
      await expect(on((database) => migrate(database, { backupPath: path, steps: broken }))).rejects.toThrow(
        /syntax error/,
      )
    await on(async (database) => expect(await versionOf(database)).toEqual({ value: String(known) }))
    await on((database) => migrate(database, { backupPath: path, steps: addColumn }))
    await on(async (database) => expect(await versionOf(database)).toEqual({ value: String(next) }))
  })
})

test('a new file needs no copy, and one that is up to date is not touched', async () => {
  await on(async (database) => {
    await migrate(database, { backupPath: path })
    await migrate(database, { backupPath: path })
  })
  expect(existsSync(`${path}.before-version-${known}`)).toBe(false)
})

test('transfers and events are the same after their tables have changed', async () => {
  const step = migrations.findIndex((statements) => statements.some((sql) => sql.includes('lean_transfers')))
  await on((database) => migrate(database, { backupPath: null, steps: migrations.slice(0, step) }))
  const transfer = `INSERT INTO transfers (kind, debit_account, credit_account, amount_micros, idempotency_key, task_id, created_at, leaf_hash)
    VALUES (?, 'external', 'fees', 5, ?, ?, '2026-01-01T00:00:00.000Z', 'hash')`
  const event = `INSERT INTO events (type, at, task_id, user_id, data) VALUES ('task.queued', '2026-01-01T00:00:00.000Z', ?, 'user_a', '{"a":1}')`
  await on((database) =>
    database.transaction(async (tx) => {
      for (const [key, task] of [
        ['deposit:a', null],
        ['hold:task_1', 'task_1'],
        ['settle:task_1', 'task_1'],
      ])
        await tx.run(transfer, task === null ? 'deposit' : 'hold', key!, task!)
      for (const task of ['task_1', 'task_2']) await tx.run(event, task)
    }),
  )
  const transfers = () =>
    on((database) => database.read((reader) => reader.all('SELECT * FROM transfers ORDER BY seq')))
  const before = await transfers()
  await on((database) => migrate(database, { backupPath: null }))
  expect(await transfers()).toEqual(before)
  expect(before.map(({ idempotency_key }) => idempotency_key)).toEqual(['deposit:a', 'hold:task_1', 'settle:task_1'])
  await on(async (database) => {
    const log = createEventLog(manualClock(0))
    expect(await database.read((reader) => log.ofTask(reader, { taskId: 'task_2', after: 0, limit: 9 }))).toMatchObject(
      [{ cursor: 2, type: 'task.queued', user_id: 'user_a', data: { a: 1 } }],
    )
    for (const [key, task] of [
      ['deposit:a', null],
      ['hold:task_1', 'task_1'],
    ])
      await expect(database.transaction((tx) => tx.run(transfer, 'hold', key!, task!))).rejects.toThrow(/UNIQUE/)
  })
})
