import { expect, test } from 'vitest'
import { rowWriter } from './row-writer.ts'
import { openSqlite } from './sqlite-database.ts'

const writeNumbers = rowWriter<number>({
  columns: 2,
  sql: (rows) => `INSERT INTO numbers (number, square) VALUES ${rows}`,
  push: (values, number) => values.push(number, number * number),
})

test('all rows are written in their sequence, however many they are', async () => {
  const database = openSqlite(':memory:')
  await database.transaction((tx) =>
    tx.run('CREATE TABLE numbers (row INTEGER PRIMARY KEY, number INTEGER, square INTEGER)'),
  )
  const written: { number: number; square: number }[] = []
  for (let count = 0; count <= 20; count++) {
    const numbers = Array.from({ length: count }, (_, index) => 100 * count + index)
    await database.transaction((tx) => writeNumbers(tx, numbers))
    written.push(...numbers.map((number) => ({ number, square: number * number })))
  }
  expect(await database.read((reader) => reader.all('SELECT number, square FROM numbers ORDER BY row'))).toEqual(
    written,
  )
  await database.close()
})
