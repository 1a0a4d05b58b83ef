import fc from 'fast-check'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { Database, Reader } from './database.ts'
import { migrate } from './migrations.ts'
import { indexOwned, ownedBehind, ownedRows, readOwned, rowsOwned } from './owned-rows.ts'
import { openSqlite } from './sqlite-database.ts'

let database: Database
beforeEach(async () => {
  database = openSqlite(':memory:')
  await migrate(database, { backupPath: null })
})
afterEach(() => database.close())

/** The first two end alike. */
const owners = ['available:user_a-123456', 'available:user_b-123456', 'available:user_c-654321']
const kinds = ['hold', 'settlement']

async function addTransfer(seq: number, [payer, payee, kind]: readonly [number, number, number]) {
  await database.transaction((tx) =>
    tx.run(
      `INSERT INTO transfers (seq, kind, debit_account, credit_account, amount_micros, idempotency_key, created_at, leaf_hash)
       VALUES (?, ?, ?, ?, 1, ?, '', '')`,
      ...[seq, kinds[kind]!, owners[payer]!, owners[payee]!, String(seq)],
    ),
  )
}

const transfer = fc.tuple(fc.nat(2), fc.nat(2), fc.nat(1))
const step = fc.oneof(
  { weight: 5, arbitrary: transfer.map((made) => ({ made, indexed: 0 })) },
  { weight: 1, arbitrary: fc.integer({ min: 1, max: 7 }).map((indexed) => ({ made: null, indexed })) },
)

test('however far the index has come, an owner’s rows are read whole, newest first, a page at a time', async () => {
  const property = fc.asyncProperty(
    fc.array(step, { maxLength: 40 }),
    fc.nat(2),
    fc.integer({ min: 1, max: 5 }),
    async (steps, who, limit) => {
      await database.transaction(async (tx) => {
        for (const table of ['transfers', 'owned', 'owned_up_to']) await tx.run(`DELETE FROM ${table}`)
      })
      const all: { seq: number; payer: number; payee: number; kind: number }[] = []
      for (const { made, indexed } of steps) {
        if (made) {
          const seq = all.length + 1
          await addTransfer(seq, made)
          all.push({ seq, payer: made[0], payee: made[1], kind: made[2] })
        } else await database.transaction((tx) => indexOwned(tx, indexed))
      }
      const paid = all.filter(({ payer }) => payer === who)
      const earned = all.filter(({ payee, kind }) => payee === who && kind === 1)
      for (const [list, rows] of [
        [ownedRows.transfersOfPayer, paid],
        [ownedRows.transfersOfPayee, earned],
      ] as const) {
        const newestFirst = rows.map(({ seq }) => seq).reverse()
        expect(await pages(list, owners[who]!, limit)).toEqual(newestFirst)
        const numbers = await database.read((reader) =>
          reader.all<{ row: number }>(rowsOwned(list, '?1'), owners[who]!),
        )
        expect(numbers.map(({ row }) => row)).toEqual(expect.arrayContaining(newestFirst))
      }
    },
  )
  await fc.assert(property, { numRuns: 200 })
})

async function pages(list: (typeof ownedRows)['transfersOfPayer' | 'transfersOfPayee'], owner: string, limit: number) {
  const found: number[] = []
  for (let before = Number.MAX_SAFE_INTEGER, more = true; more;) {
    const page = await database.read((reader) =>
      readOwned<{ seq: number }>(reader, {
        ...{ list, select: 't.seq', owner: '?1', before: '?2', where: `t.${list.owner} = ?1` },
        ...{ params: [owner, before], limit },
      }),
    )
    expect(page.length).toBeLessThanOrEqual(limit)
    found.push(...page.map(({ seq }) => seq))
    before = page.at(-1)?.seq ?? 0
    more = page.length === limit
  }
  return found
}

test('the index is brought up to date in steps, an entry for each owner, until it is behind no more', async () => {
  for (let seq = 1; seq <= 10; seq++) await addTransfer(seq, [0, 1, 1])
  const behind = () => database.read(ownedBehind)
  const indexed = () =>
    database.read((reader) =>
      reader.get('SELECT count(*) AS entries, total(json_array_length(offsets)) AS rows FROM owned'),
    )
  const found: [isBehind: boolean, lists: number, indexed: unknown][] = []
  for (let isBehind = true; isBehind;) {
    isBehind = await database.transaction((tx) => indexOwned(tx, 4))
    found.push([isBehind, (await behind()).length, await indexed()])
  }
  expect(found).toEqual([
    [true, 2, { entries: 2, rows: 8 }],
    [true, 2, { entries: 4, rows: 16 }],
    [false, 0, { entries: 6, rows: 20 }],
  ])
})

test('an owner’s rows are looked for entry by entry, the newest first, until there are enough', async () => {
  const asked: string[] = []
  const plans = await database.read(async (reader) => {
    const noting: Reader = { ...reader, all: (sql, ...params) => (asked.push(sql), reader.all(sql, ...params)) }
    await readOwned(noting, {
      ...{ list: ownedRows.tasksOfRenter, select: 'id', owner: '?1', before: '?2', where: 'renter_id = ?1' },
      ...{ params: ['user_1', 9], limit: 5 },
    })
    const explained = await reader.all<{ detail: string }>(`EXPLAIN QUERY PLAN ${asked[1]}`, 'user_1', 9, 5)
    return explained.map(({ detail }) => detail)
  })
  expect(plans).toEqual([
    'SEARCH t USING INTEGER PRIMARY KEY (rowid=?)',
    'LIST SUBQUERY 1',
    'SEARCH o USING PRIMARY KEY (list=? AND owner=? AND base<?)',
    'SCAN j VIRTUAL TABLE INDEX 1:',
    'SEARCH t USING INTEGER PRIMARY KEY (rowid=?)',
    'USE TEMP B-TREE FOR LAST TERM OF ORDER BY',
  ])
})
