import { type Context, nowIso } from '../context.ts'
import type { Reader, Transaction } from '../db/database.ts'

/** Something whose time has come. */
export type Due = { id: string; due: string }
/** What is due by `now` and comes after `after`, by time and then by id. */
export type DueAfter = { now: string; after: Due; limit: number }

const pageSize = 100

/**
 * Handles all that is due now, each in a transaction of its own. What fails is logged, keeps nothing else from being handled,
 * and is found again the next time.
 */
export async function workOffDue(
  context: Pick<Context, 'clock' | 'database' | 'log'>,
  {
    what,
    find,
    handle,
  }: {
    what: string
    find: (reader: Reader, query: DueAfter) => Promise<Due[]>
    handle: (tx: Transaction, id: string) => Promise<void>
  },
): Promise<void> {
  const { database, log } = context
  const now = nowIso(context)
  let after: Due = { id: '', due: '' }
  for (;;) {
    const page = await database.read((reader) => find(reader, { now, after, limit: pageSize }))
    const handled = page.map(({ id }) =>
      database
        .transaction((tx) => handle(tx, id))
        .catch((error: unknown) => log.error({ error, id }, `a ${what} that is due could not be settled`)),
    )
    await Promise.all(handled)
    if (page.length < pageSize) return
    after = page.at(-1)!
  }
}
