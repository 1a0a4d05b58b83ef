import type { Transaction, Value } from './database.ts'

/** How many rows a statement writes. With eight a row costs half of what it costs alone; more would bring little. */
const counts = [8, 4, 2, 1]

type Parts<R> = {
  columns: number
  /** The statement, with the rows that stand after VALUES. */
  sql: (rows: string) => string
  /** Adds the values of a row's columns. */
  push: (values: Value[], row: R) => void
}

/** Writes rows, several with one statement. There are few texts, so that each is prepared once. */
export function rowWriter<R>({ columns, sql, push }: Parts<R>): (tx: Transaction, rows: readonly R[]) => Promise<void> {
  const row = `(${Array(columns).fill('?').join(', ')})`
  const statements = counts.map((count) => ({ count, text: sql(Array(count).fill(row).join(', ')) }))
  return async (tx, rows) => {
    let written = 0
    for (const { count, text } of statements)
      for (; rows.length - written >= count; written += count) {
        const values: Value[] = []
        for (let index = written; index < written + count; index++) push(values, rows[index]!)
        await tx.run(text, ...values)
      }
  }
}
