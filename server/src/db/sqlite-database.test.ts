import { DatabaseSync, type DatabaseSyncInstance } from '@photostructure/sqlite'
import { expect, test } from 'vitest'
import { CommitLostError, type Database, DatabaseFullError, type Transaction } from './database.ts'
import { sqliteDatabase, type SqliteOptions } from './sqlite-database.ts'

type Fault = { sql: string; strike: (sqlite: DatabaseSyncInstance) => void }

/** A database with a table of notes, whose SQLite may be told to break at a statement. */
async function notes(options: SqliteOptions = {}) {
  const sqlite = new DatabaseSync(':memory:')
  let fault: Fault | null = null
  const strikeAt = (sql: string) => {
    if (!fault || !sql.startsWith(fault.sql)) return
    const { strike } = fault
    fault = null
    strike(sqlite)
  }
  const own: Record<string, unknown> = {
    exec(sql: string) {
      strikeAt(sql)
      sqlite.exec(sql)
    },
    prepare(sql: string) {
      const statement = sqlite.prepare(sql)
      const call =
        (name: 'run' | 'get' | 'all') =>
        (...values: unknown[]) => {
          strikeAt(sql)
          return statement[name](...values) as unknown
        }
      return { run: call('run'), get: call('get'), all: call('all') }
    },
  }
  const handle = new Proxy(sqlite, {
    get(target, name) {
      const value: unknown = own[String(name)] ?? Reflect.get(target, name)
      return typeof value === 'function' ? (value.bind(target) as unknown) : value
    },
  })
  const database = sqliteDatabase(handle, options)
  await database.transaction((tx) => tx.run('CREATE TABLE notes (text TEXT NOT NULL UNIQUE) STRICT'))
  return { sqlite, database, breakAt: (next: Fault) => void (fault = next) }
}

const add = (tx: Transaction, text: string) => tx.run('INSERT INTO notes (text) VALUES (?)', text)
const adding = (database: Database, text: string) => database.transaction((tx) => add(tx, text))
const stored = async (database: Database) =>
  (await database.read((reader) => reader.all<{ text: string }>('SELECT text FROM notes ORDER BY rowid'))).map(
    ({ text }) => text,
  )
const ioError = () => Object.assign(new Error('disk I/O error'), { errcode: 10 })
/** What SQLite does of itself on some errors (https://www.sqlite.org/lang_transaction.html, section 3). */
const rollBackItself = (sqlite: DatabaseSyncInstance) => {
  sqlite.exec('ROLLBACK')
  throw ioError()
}
const outcomes = async (all: Promise<unknown>[]) => (await Promise.allSettled(all)).map(({ status }) => status)

test('a transaction that fails takes nothing with it of those in the same commit', async () => {
  const { database } = await notes()
  const all = [adding(database, 'a'), adding(database, 'a'), adding(database, 'b')]
  expect(await outcomes(all)).toEqual(['fulfilled', 'rejected', 'fulfilled'])
  expect(await stored(database)).toEqual(['a', 'b'])
})

test('an effect that throws is reported; all others happen, everybody is answered, and commits go on', async () => {
  const reported: unknown[] = []
  const { database } = await notes({ onEffectError: (error) => reported.push(error) })
  const happened: string[] = []
  const withEffects = (text: string) =>
    database.transaction(async (tx) => {
      await add(tx, text)
      tx.afterCommit(() => happened.push(`before ${text}`))
      tx.afterCommit(() => {
        if (text === 'a') throw new Error('an effect broke')
      })
      tx.afterCommit(() => happened.push(`after ${text}`))
      return text
    })
  expect(await Promise.all([withEffects('a'), withEffects('b')])).toEqual(['a', 'b'])
  expect(happened).toEqual(['before a', 'after a', 'before b', 'after b'])
  expect(reported).toEqual([new Error('an effect broke')])
  await adding(database, 'c')
  expect(await stored(database)).toEqual(['a', 'b', 'c'])
  await database.close()
})

test('a commit that may not begin is refused, and the next one begins', async () => {
  let broken = false
  const { database } = await notes({
    beforeCommit: () => (broken ? Promise.reject(new Error('not now')) : Promise.resolve()),
  })
  broken = true
  await expect(adding(database, 'a')).rejects.toThrow('not now')
  broken = false
  await adding(database, 'b')
  expect(await stored(database)).toEqual(['b'])
})

test('where SQLite gives up a commit by itself, nothing of it is stored and everybody hears of it', async () => {
  const { database, breakAt } = await notes()
  const effects: string[] = []
  const broken = database.transaction(async (tx) => {
    tx.afterCommit(() => effects.push('broken'))
    await tx.run('INSERT INTO notes (text) SELECT ?', 'broken')
  })
  breakAt({ sql: 'INSERT INTO notes (text) SELECT', strike: rollBackItself })
  expect(await outcomes([adding(database, 'before'), broken, adding(database, 'after')])).toEqual([
    'rejected',
    'rejected',
    'rejected',
  ])
  expect(await stored(database)).toEqual([])
  expect(effects).toEqual([])
  await adding(database, 'later')
  expect(await stored(database)).toEqual(['later'])
})

test('a transaction that goes on after SQLite has given up the commit writes nothing outside of it', async () => {
  const { database, breakAt } = await notes()
  const stubborn = database.transaction(async (tx) => {
    await tx.run('INSERT INTO notes (text) SELECT ?', 'broken').catch(() => {})
    await add(tx, 'stubborn')
  })
  breakAt({ sql: 'INSERT INTO notes (text) SELECT', strike: rollBackItself })
  const all = [adding(database, 'before'), stubborn, adding(database, 'after')]
  await expect(stubborn).rejects.toBeInstanceOf(CommitLostError)
  expect(await outcomes(all)).toEqual(['rejected', 'rejected', 'rejected'])
  expect(await stored(database)).toEqual([])
})

test('a transaction that hides that SQLite has given up the commit is not taken for stored', async () => {
  const { database, breakAt } = await notes()
  const hiding = database.transaction(async (tx) => {
    await tx.run('INSERT INTO notes (text) SELECT ?', 'broken').catch(() => {})
  })
  breakAt({ sql: 'INSERT INTO notes (text) SELECT', strike: rollBackItself })
  expect(await outcomes([adding(database, 'before'), hiding])).toEqual(['rejected', 'rejected'])
  expect(await stored(database)).toEqual([])
})

test('no transaction begins after SQLite has given up the commit', async () => {
  const { database, breakAt } = await notes()
  const all = [adding(database, 'broken'), adding(database, 'after')]
  breakAt({ sql: 'SAVEPOINT one', strike: rollBackItself })
  expect(await outcomes(all)).toEqual(['rejected', 'rejected'])
  expect(await stored(database)).toEqual([])
})

test.each(['ROLLBACK TO one', 'RELEASE one'])('where %s fails, nothing of the commit is stored', async (sql) => {
  const { database, breakAt } = await notes()
  const failing = database.transaction(async (tx) => {
    await add(tx, 'half')
    throw new RangeError('changed its mind')
  })
  breakAt({
    sql,
    strike: () => {
      throw ioError()
    },
  })
  const all = [adding(database, 'before'), failing, adding(database, 'after')]
  expect(await outcomes(all)).toEqual(['rejected', 'rejected', 'rejected'])
  expect(await stored(database)).toEqual([])
  await adding(database, 'later')
  expect(await stored(database)).toEqual(['later'])
})

test('a disk that is full in the middle of a commit is said to all, also where one of them hides it', async () => {
  const { database, sqlite } = await notes()
  await adding(database, 'first')
  const { page_count: pages } = sqlite.prepare('PRAGMA page_count').get() as { page_count: number }
  sqlite.exec(`PRAGMA max_page_count = ${pages + 2}`)
  const large = 'x'.repeat(100_000)
  const all = [adding(database, 'before'), adding(database, large), adding(database, 'after')]
  for (const one of all) await expect(one).rejects.toBeInstanceOf(DatabaseFullError)
  const hiding = database.transaction(async (tx) => {
    await add(tx, large).catch(() => {})
    await add(tx, 'stubborn')
  })
  await Promise.allSettled([adding(database, 'beside'), hiding])
  expect(await stored(database)).not.toContain(large)
  sqlite.exec('PRAGMA max_page_count = 100000')
  await adding(database, 'later')
  expect((await stored(database)).at(-1)).toBe('later')
})

test('a commit of which nobody knows whether it is on the disk is answered to nobody, and nothing else is any more', async () => {
  const doubts: unknown[] = []
  const { database, breakAt } = await notes({ onDoubt: (error) => doubts.push(error) })
  breakAt({
    sql: 'COMMIT',
    strike(sqlite) {
      sqlite.exec('COMMIT')
      throw Object.assign(new Error('disk I/O error'), { errcode: 1034 })
    },
  })
  const answered: string[] = []
  const hear = (what: string) => () => void answered.push(what)
  adding(database, 'in doubt').then(hear('kept'), hear('lost'))
  const turn = () => new Promise<void>((resolve) => setImmediate(resolve))
  for (let turns = 0; doubts.length === 0 && turns < 100; turns++) await turn()
  adding(database, 'later').then(hear('kept'), hear('lost'))
  stored(database).then(hear('read'), hear('not read'))
  for (let turns = 0; turns < 10; turns++) await turn()
  expect([doubts.length, answered]).toEqual([1, []])
})

/** Adds the numbers of a commit of many, and counts how often each is tried. */
function addMany(database: Database, fail: (tx: Transaction, number: number) => Promise<void>) {
  const tried = new Map<number, number>()
  const effects: number[] = []
  const all = Array.from({ length: 40 }, (_, number) =>
    database.transaction(async (tx) => {
      tried.set(number, (tried.get(number) ?? 0) + 1)
      tx.afterCommit(() => effects.push(number))
      await fail(tx, number)
      await add(tx, String(number))
    }),
  )
  return { all, tried, effects }
}
const numbers = Array.from({ length: 40 }, (_, number) => number)

test('of many in a commit, one that fails after it has written takes nothing with it, and nothing happens twice', async () => {
  const { database } = await notes()
  const undone: number[] = []
  const { all, effects } = addMany(database, async (tx, number) => {
    tx.onUndo(() => undone.push(number))
    if (number !== 20) return
    await add(tx, 'half')
    throw new RangeError('changed its mind')
  })
  expect((await outcomes(all)).map((outcome, number) => (outcome === 'rejected' ? number : -1))).toContain(20)
  const others = numbers.filter((number) => number !== 20)
  expect(await stored(database)).toEqual(others.map(String))
  expect(effects).toEqual(others)
  // What the first try had done to memory is undone too, newest first; the second try leaves only the failed one undone.
  expect(undone).toEqual([...numbers.slice(0, 21).reverse(), 20])
})

test('of many in a commit, one that fails after a statement that writes and reads takes that back', async () => {
  const { database } = await notes()
  const { all } = addMany(database, async (tx, number) => {
    if (number !== 20) return
    await tx.get(`INSERT INTO notes (text) VALUES ('half') RETURNING text`)
    throw new RangeError('changed its mind')
  })
  await outcomes(all)
  expect(await stored(database)).toEqual(numbers.filter((number) => number !== 20).map(String))
})

test('of many in a commit, one that fails before it has written makes nobody try again', async () => {
  const { database } = await notes()
  const { all, tried, effects } = addMany(database, async (_tx, number) => {
    if (number % 10 === 3) throw new RangeError('it may not')
  })
  await Promise.allSettled(all)
  const others = numbers.filter((number) => number % 10 !== 3)
  expect(await stored(database)).toEqual(others.map(String))
  expect(effects).toEqual(others)
  expect([...tried.values()]).toEqual(numbers.map(() => 1))
})

test('of many in a commit, none is stored where SQLite gives it up, and what they did to memory is undone', async () => {
  const { database, breakAt } = await notes()
  let open = 0
  const { all, effects } = addMany(database, async (tx) => {
    open++
    tx.onUndo(() => open--)
  })
  breakAt({ sql: 'COMMIT', strike: rollBackItself })
  expect(new Set(await outcomes(all))).toEqual(new Set(['rejected']))
  expect(await stored(database)).toEqual([])
  expect([open, effects]).toEqual([0, []])
  await adding(database, 'later')
  expect(await stored(database)).toEqual(['later'])
})
