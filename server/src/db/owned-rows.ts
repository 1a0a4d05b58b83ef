import { type Reader, type Row, shortOf, type Transaction, type Value } from './database.ts'

/*
 * Lists of what belongs to somebody: a renter's tasks, a GPU's attempts, who has paid and earned what. An index for each would be
 * written to at as many places a commit as there are owners in it, which cost a tenth of a task's time. So there is one index of
 * all, `owned`, which is brought up to date a moment later, many rows at a time; what has been added since is looked through.
 *
 * Of what is added to the index at once each owner has one entry: the number of the last row before it, `base`, and how far after
 * that each row of the owner's is, `offsets`. What is added later lies beyond, so that to sort by base and offset is to sort by row.
 */

type List = { readonly number: number; readonly table: string; readonly owner: string; readonly only?: string }
/** Numbers are kept in the database: never change one. */
export const ownedRows = {
  tasksOfRenter: { number: 1, table: 'tasks', owner: 'renter_id' },
  attemptsOfGpu: { number: 2, table: 'attempts', owner: 'gpu_id' },
  paymentsOfPayer: { number: 3, table: 'payments', owner: 'payer_id' },
  paymentsOfRecipient: { number: 4, table: 'payments', owner: 'recipient_id' },
  transfersOfPayer: { number: 5, table: 'transfers', owner: 'debit_account' },
  /** Where a user's money only changes accounts, the user is the payer. */
  transfersOfPayee: {
    number: 6,
    table: 'transfers',
    owner: 'credit_account',
    only: `kind IN ('deposit', 'settlement', 'refund')`,
  },
} as const satisfies Record<string, List>

/** The last row of a list that the index has. */
const indexedUpTo = ({ number }: List) => `coalesce((SELECT row FROM owned_up_to WHERE list = ${number}), 0)`

const entries = 'owned o CROSS JOIN json_each(o.offsets) j'
const entriesOf = ({ number }: List, owner: string) => `o.list = ${number} AND o.owner = ${shortOf(owner)}`

export type OwnedQuery = {
  list: List
  /** What to read of `t`, a row of the list's table. */
  select: string
  joins?: string
  /** SQL: rows below this number only. */
  before: string
  /** SQL: whose they are, and what else has to be so of `t`. */
  where: string
  /** SQL: the owner's id. Of owners whose ids end alike, `where` tells them apart. */
  owner: string
  params: readonly Value[]
  limit: number
}

/** Newest first. */
export async function readOwned<R extends Row>(reader: Reader, query: OwnedQuery): Promise<R[]> {
  const { list, select, joins = '', before, where, owner, params, limit } = query
  const { table, only = 'TRUE' } = list as List
  const recent = await reader.all<R>(
    `SELECT ${select} FROM ${table} t ${joins}
     WHERE t.rowid > ${indexedUpTo(list)} AND t.rowid < ${before} AND ${only} AND ${where} ORDER BY t.rowid DESC LIMIT ?${params.length + 1}`,
    ...params,
    limit,
  )
  if (recent.length === limit) return recent
  const older = await reader.all<R>(
    `SELECT ${select} FROM ${table} t ${joins} WHERE t.rowid IN (
       SELECT t.rowid FROM ${entries} CROSS JOIN ${table} t ON t.rowid = o.base + j.value
       WHERE ${entriesOf(list, owner)} AND o.base < ${before} AND o.base + j.value < ${before} AND ${where}
       ORDER BY o.base DESC, j.value DESC LIMIT ?${params.length + 1})
     ORDER BY t.rowid DESC`,
    ...params,
    limit,
  )
  return [...recent, ...older.slice(0, limit - recent.length)]
}

/** SQL: the numbers of all rows of an owner, and of nobody whose id does not end like theirs. */
export function rowsOwned(list: List, owner: string): string {
  const { table, owner: column, only = 'TRUE' } = list
  return `SELECT o.base + j.value AS row FROM ${entries} WHERE ${entriesOf(list, owner)}
    UNION ALL SELECT rowid FROM ${table} WHERE rowid > ${indexedUpTo(list)} AND ${column} = ${owner} AND ${only}`
}

type Behind = Row & { list: number; from: number; last: number }

/** The lists to which rows were added that the index does not have yet, with the last row of which it does and of all. */
export function ownedBehind(reader: Reader): Promise<Behind[]> {
  const ends = Object.values<List>(ownedRows).map(
    (list) =>
      `SELECT ${list.number} AS list, ${indexedUpTo(list)} AS "from", coalesce((SELECT max(rowid) FROM ${list.table}), 0) AS last`,
  )
  return reader.all<Behind>(`SELECT * FROM (${ends.join(' UNION ALL ')}) WHERE "from" < last`)
}

/** Brings the index up to date, by at most so many rows of each table. True: it is still behind. */
export async function indexOwned(tx: Transaction, rowsMax: number): Promise<boolean> {
  const lists = new Map(Object.values<List>(ownedRows).map((list) => [list.number, list]))
  const behind = await ownedBehind(tx)
  for (const { list, from, last } of behind) {
    const { table, owner, only = 'TRUE' } = lists.get(list)!
    const upTo = Math.min(last, from + rowsMax)
    await tx.run(
      `INSERT INTO owned (list, owner, base, offsets)
       SELECT ${list}, ${shortOf(owner)}, ?1, json_group_array(rowid - ?1) FROM ${table}
       WHERE rowid > ?1 AND rowid <= ?2 AND ${only} GROUP BY 2`,
      ...[from, upTo],
    )
    await tx.run(
      `INSERT INTO owned_up_to (list, row) VALUES (?, ?) ON CONFLICT (list) DO UPDATE SET row = excluded.row`,
      ...[list, upTo],
    )
  }
  return behind.some(({ from, last }) => last - from > rowsMax)
}
