import type { Reader } from '../db/database.ts'

/** The hashes of tasks' files, each once, in order: at most 1,000 after `after`. */
export async function fileHashesAfter(reader: Reader, after: string): Promise<string[]> {
  const rows = await reader.all<{ sha256: string }>(
    'SELECT DISTINCT sha256 FROM task_files WHERE sha256 > ? ORDER BY sha256 LIMIT 1000',
    after,
  )
  return rows.map(({ sha256 }) => sha256)
}

export async function* fileHashes(reader: Reader): AsyncGenerator<string, void, undefined> {
  for (
    let page = await fileHashesAfter(reader, '');
    page.length > 0;
    page = await fileHashesAfter(reader, page.at(-1)!)
  )
    yield* page
}

export type MarketSize = { users: number; tasks: number; tasks_open: number; payments: number }

/** Also of files that older versions have written: what is asked here all of them have. */
export async function marketSize(reader: Reader): Promise<MarketSize> {
  const row = await reader.get<MarketSize>(
    `SELECT (SELECT count(*) FROM users) AS users, (SELECT count(*) FROM tasks) AS tasks,
       (SELECT count(*) FROM tasks WHERE completed_at IS NULL) AS tasks_open,
       (SELECT count(*) FROM payments) AS payments`,
  )
  return row!
}

/** What SQLite itself finds wrong with the file; empty: nothing. */
export async function integrityProblems(reader: Reader): Promise<string[]> {
  const rows = await reader.all<{ quick_check: string }>('PRAGMA quick_check(10)')
  return rows.map(({ quick_check: text }) => text).filter((text) => text !== 'ok')
}
