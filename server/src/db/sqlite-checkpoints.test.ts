import { mkdtempSync, rmSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync, type DatabaseSyncInstance } from '@photostructure/sqlite'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { type Database, DatabaseInUseError } from './database.ts'
import { type CheckpointThread, createCheckpoints, startCheckpointThread } from './sqlite-checkpoints.ts'
import { openSqlite, openSqliteReadOnly, sqliteDatabase } from './sqlite-database.ts'

let folder: string
let path: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'orbyte-checkpoints-'))
  path = join(folder, 'market.db')
})
afterEach(() => rmSync(folder, { recursive: true }))

const createNotes = (database: Database) =>
  database.transaction((tx) => tx.run('CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT NOT NULL) STRICT'))
const note = (database: Database) =>
  database.transaction((tx) => tx.run('INSERT INTO notes (text) VALUES (?)', 'x'.repeat(3_000)))
const turns = async (count: number) => {
  for (let turn = 0; turn < count; turn++) await new Promise((resolve) => setImmediate(resolve))
}

/** A connection as `openSqlite` makes it, whose log's length is known. */
function connection() {
  const sqlite = new DatabaseSync(path)
  sqlite.exec('PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0; BEGIN IMMEDIATE; COMMIT')
  const frames = () => (sqlite.prepare('PRAGMA wal_checkpoint(NOOP)').get() as { log: number }).log
  return { sqlite, frames }
}

/** A thread that does nothing until the test says how its pass ends. */
function heldThread() {
  const passes: { resolve: () => void; reject: (error: Error) => void }[] = []
  let ended = false
  const thread: CheckpointThread = {
    carryOver: () => new Promise<void>((resolve, reject) => passes.push({ resolve, reject })),
    hasEnded: () => ended,
    close: async () => {},
  }
  return { thread, passes, end: () => (ended = true) }
}

async function longLog(sqlite: DatabaseSyncInstance, thread: CheckpointThread, onDoubt?: (error: unknown) => void) {
  const database = sqliteDatabase(sqlite, {
    checkpointThread: thread,
    logBytesMax: 40_000,
    ...(onDoubt && { onDoubt }),
  })
  await createNotes(database)
  for (let count = 0; count < 20; count++) await note(database)
  return database
}

test('while commits go on the log is carried over again and again, so that it never grows for long', async () => {
  const { sqlite, frames } = connection()
  const checkpointThread = startCheckpointThread(path)
  const database = sqliteDatabase(sqlite, { checkpointThread, logBytesMax: 100_000 })
  await createNotes(database)
  let begunAnew = 0
  let written = 0
  for (let before = 0; begunAnew < 5; written++) {
    await note(database)
    const now = frames()
    if (now < before) begunAnew++
    before = now
  }
  await database.close()
  const { reader, close } = openSqliteReadOnly(path)
  expect(await reader.get('PRAGMA integrity_check')).toEqual({ integrity_check: 'ok' })
  expect(await reader.get('SELECT count(*) AS count FROM notes')).toEqual({ count: written })
  close()
})

test('commits go on while the log is carried over, and wait only for its last pass', async () => {
  const { sqlite } = connection()
  const { thread, passes } = heldThread()
  const database = await longLog(sqlite, thread)
  await turns(5)
  expect(passes).toHaveLength(1)
  await note(database)
  passes[0]!.resolve()
  await turns(5)
  await note(database)
  passes[1]!.resolve()
  await turns(5)
  let isWritten = false
  const last = note(database).then(() => (isWritten = true))
  await turns(20)
  expect([passes.length, isWritten]).toEqual([3, false])
  passes[2]!.resolve()
  await last
  await database.close()
})

test('a log that could not begin anew may grow by as much again before the next try', async () => {
  const { sqlite, frames } = connection()
  const { thread, passes } = heldThread()
  const database = await longLog(sqlite, thread)
  await turns(5)
  passes[0]!.reject(Object.assign(new Error('database or disk is full'), { errcode: 13 }))
  await turns(5)
  const kept = frames()
  while (passes.length === 1) await note(database)
  expect((frames() - kept) * 4_096).toBeGreaterThanOrEqual(40_000)
  passes[1]!.reject(new Error('the test ends'))
  await database.close()
})

test('where nobody knows whether the file is on the disk, nobody is answered any more', async () => {
  const { sqlite } = connection()
  const { thread, passes } = heldThread()
  const doubts: unknown[] = []
  const database = await longLog(sqlite, thread, (error) => doubts.push(error))
  await turns(5)
  passes[0]!.reject(Object.assign(new Error('disk I/O error'), { errcode: 1034 }))
  await turns(5)
  let isAnswered = false
  const answer = () => (isAnswered = true)
  void note(database).then(answer, answer)
  await turns(20)
  expect([doubts.length, isAnswered]).toEqual([1, false])
  sqlite.close()
})

test('once the thread has ended the connection carries the log over by itself', async () => {
  const { sqlite, frames } = connection()
  const { thread, passes, end } = heldThread()
  const database = await longLog(sqlite, thread)
  await turns(5)
  end()
  passes[0]!.reject(new Error('the thread has ended'))
  await turns(5)
  for (let count = 0; count < 40; count++) await note(database)
  expect(frames() * 4_096).toBeLessThan(60_000)
  expect(passes).toHaveLength(1)
  await database.close()
})

test('a thread that cannot work says so, and ends', async () => {
  const thread = startCheckpointThread(join(folder, 'nowhere', 'market.db'))
  await expect(thread.carryOver()).rejects.toThrow('unable to open database file')
  expect(thread.hasEnded()).toBe(true)
  await thread.close()
})

test('nothing is carried over while a copy is made, which waits for what runs', async () => {
  const { sqlite } = connection()
  const { thread, passes } = heldThread()
  const checkpoints = createCheckpoints(sqlite, {
    ...{ thread, logBytesMax: 40_000, onDoubt: () => {} },
    exclusively: (work) => work(),
  })
  sqlite.exec('CREATE TABLE notes (bytes BLOB); INSERT INTO notes VALUES (zeroblob(100000))')
  await checkpoints.without(async () => checkpoints.committed())
  expect(passes).toHaveLength(0)
  checkpoints.committed()
  let isAlone = false
  const copied = checkpoints.without(async () => (isAlone = true))
  for (let pass = 0; pass < 3; pass++) {
    await turns(5)
    expect([passes.length, isAlone]).toEqual([pass + 1, false])
    passes[pass]!.resolve()
  }
  await copied
  sqlite.close()
})

test('a file is one server’s, by whatever name it is opened, and anybody’s to look at', async () => {
  const database = openSqlite(path)
  await createNotes(database)
  symlinkSync(path, `${path}.link`)
  for (const name of [path, `${path}.link`]) expect(() => openSqlite(name)).toThrow(DatabaseInUseError)
  const { reader, close } = openSqliteReadOnly(path)
  expect(await reader.get('SELECT count(*) AS count FROM notes')).toEqual({ count: 0 })
  await note(database)
  // It sees one moment, however long it looks.
  expect(await reader.get('SELECT count(*) AS count FROM notes')).toEqual({ count: 0 })
  close()
  await database.close()
  await openSqlite(path).close()
})

test('a server of an earlier version, which takes the file for itself, is refused too', async () => {
  const database = openSqlite(path)
  await createNotes(database)
  const earlier = new DatabaseSync(path)
  expect(() => earlier.exec('PRAGMA locking_mode=EXCLUSIVE; PRAGMA journal_mode=WAL; BEGIN IMMEDIATE; COMMIT')).toThrow(
    'database is locked',
  )
  earlier.close()
  await note(database)
  await database.close()
})
