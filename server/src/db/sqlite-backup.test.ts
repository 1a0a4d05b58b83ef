import { execFile } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { Database } from './database.ts'
import { openSqlite, openSqliteReadOnly } from './sqlite-database.ts'

let folder: string
let path: string
let database: Database
beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'orbyte-copy-'))
  path = join(folder, 'market.db')
  database = openSqlite(path)
  await database.transaction((tx) => tx.run('CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT NOT NULL)'))
})
afterEach(async () => {
  await database.close()
  rmSync(folder, { recursive: true, force: true })
})

const add = (count: number) =>
  database.transaction(async (tx) => {
    for (let index = 0; index < count; index++) await tx.run('INSERT INTO notes (text) VALUES (?)', 'x'.repeat(1_000))
  })

async function countIn(copy: string): Promise<number> {
  const { reader, close } = openSqliteReadOnly(copy)
  expect(await reader.get('PRAGMA integrity_check')).toEqual({ integrity_check: 'ok' })
  const row = await reader.get<{ count: number }>('SELECT count(*) AS count FROM notes')
  close()
  return row!.count
}

test('a copy holds what was committed when it began, and commits go on while it is made', async () => {
  await add(20_000)
  const copied = database.backUp(`${path}.copy`)
  let done = false
  void copied.then(() => (done = true))
  let meanwhile = 0
  while (!done) {
    await add(10)
    meanwhile += 10
  }
  // Several commits fit into a copy of 20 MB: it did not hold them up.
  expect(meanwhile).toBeGreaterThan(10)
  expect(await countIn(`${path}.copy`)).toBeLessThanOrEqual(20_010)
  expect(await countIn(`${path}.copy`)).toBeGreaterThanOrEqual(20_000)
  const { count } = (await database.read((reader) =>
    reader.get<{ count: number }>('SELECT count(*) AS count FROM notes'),
  ))!
  expect(count).toBe(20_000 + meanwhile)
})

test('a copy is one file, for its owner alone, that can be read where nothing can be written', async () => {
  await add(10)
  await database.backUp(`${path}.copy`)
  expect(statSync(`${path}.copy`).mode & 0o777).toBe(0o600)
  expect(await countIn(`${path}.copy`)).toBe(10)
  expect(['-wal', '-shm', '.partial'].filter((suffix) => existsSync(`${path}.copy${suffix}`))).toEqual([])
})

test('after a copy the write-ahead log is emptied into the file again', async () => {
  await database.backUp(`${path}.copy`)
  const before = statSync(path).size
  await add(80_000)
  await expect.poll(() => statSync(path).size).toBeGreaterThan(before + 30_000_000)
})

test('several copies are made one after another, and a closing database waits for them', async () => {
  await add(1_000)
  const copies = [database.backUp(`${path}.1`), database.backUp(`${path}.2`)]
  await database.close()
  await Promise.all(copies)
  expect([await countIn(`${path}.1`), await countIn(`${path}.2`)]).toEqual([1_000, 1_000])
  database = openSqlite(path)
})

test('a copy that cannot be written is an error, leaves nothing behind, and hinders no later one', async () => {
  await expect(database.backUp(join(folder, 'missing', 'copy.db'))).rejects.toThrow('ENOENT')
  await add(5)
  await database.backUp(`${path}.copy`)
  expect(await countIn(`${path}.copy`)).toBe(5)
})

test('no copy gives the market’s lock on its file away', async () => {
  await database.backUp(`${path}.copy`)
  await add(1)
  const source = fileURLToPath(new URL('sqlite-database.ts', import.meta.url))
  const program = `import('${source}').then(({ openSqlite }) => openSqlite(process.argv[1])).then(() => console.log('open'), (error) => console.log(error.name))`
  const { stdout } = await promisify(execFile)(process.execPath, [
    '--import',
    import.meta.resolve('tsx'),
    '--eval',
    program,
    path,
  ])
  expect(stdout.trim()).toBe('DatabaseInUseError')
})
