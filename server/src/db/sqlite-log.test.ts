import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync, type DatabaseSyncInstance } from '@photostructure/sqlite'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { sqliteDatabase } from './sqlite-database.ts'
import { noLog, openLog, type SqliteLog } from './sqlite-log.ts'

let folder: string
let sqlite: DatabaseSyncInstance
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'orbyte-log-'))
  sqlite = new DatabaseSync(join(folder, 'market.db'))
  sqlite.exec(
    'PRAGMA locking_mode=EXCLUSIVE; PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; BEGIN IMMEDIATE; COMMIT',
  )
})
afterEach(() => rmSync(folder, { recursive: true }))

const synchronous = () => (sqlite.prepare('PRAGMA synchronous').get() as { synchronous: number }).synchronous
const [normal, full] = [1, 2]

/** A log that gets to the disk when the test says so. */
function heldLog() {
  const log = openLog(sqlite)
  const waiting: { resolve: () => void; reject: (error: Error) => void }[] = []
  const held: SqliteLog = {
    sync: () => new Promise<void>((resolve, reject) => waiting.push({ resolve, reject })).then(() => log.sync()),
    close: () => log.close(),
  }
  return { held, waiting }
}
const turns = async (count: number) => {
  for (let turn = 0; turn < count; turn++) await new Promise((resolve) => setImmediate(resolve))
}

test('whoever is answered finds the log on the disk: no transaction, effect, read or commit comes before', async () => {
  const { held, waiting } = heldLog()
  const database = sqliteDatabase(sqlite, { log: held })
  const happened: string[] = []
  const first = database.transaction(async (tx) => {
    await tx.run('CREATE TABLE notes (text TEXT NOT NULL) STRICT')
    tx.afterCommit(() => happened.push('effect'))
  })
  void first.then(() => happened.push('answer'))
  await turns(5)
  const read = database.read((reader) => reader.all('SELECT * FROM notes')).then(() => happened.push('read'))
  const second = database.transaction(async (tx) => {
    happened.push('next commit')
    await tx.run(`INSERT INTO notes VALUES ('a')`)
  })
  await turns(20)
  expect([happened, waiting.length]).toEqual([[], 1])
  waiting.shift()!.resolve()
  await read
  await turns(5)
  expect(happened.slice(0, 2)).toEqual(['effect', 'answer'])
  expect(happened).toContain('next commit')
  waiting.shift()!.resolve()
  await second
  await database.close()
})

test('where nobody knows whether the log is on the disk, nobody is answered any more', async () => {
  const { held, waiting } = heldLog()
  const doubts: unknown[] = []
  const database = sqliteDatabase(sqlite, { log: held, onDoubt: (error) => doubts.push(error) })
  let isAnswered = false
  const asked = database.transaction((tx) => tx.run('CREATE TABLE notes (text TEXT)'))
  const answer = () => (isAnswered = true)
  void asked.then(answer, answer)
  await turns(5)
  waiting.shift()!.reject(Object.assign(new Error('fdatasync'), { code: 'EIO' }))
  await turns(20)
  expect(isAnswered).toBe(false)
  expect(doubts).toHaveLength(1)
  sqlite.close()
})

test('the connection leaves the log to us, and takes it back before it closes', () => {
  const log = openLog(sqlite)
  expect(synchronous()).toBe(normal)
  log.close()
  expect(synchronous()).toBe(full)
  sqlite.close()
})

test('a database in memory has no log', () => {
  const memory = new DatabaseSync(':memory:')
  expect(openLog(memory)).toBe(noLog)
  memory.close()
})
