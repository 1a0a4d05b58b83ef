import { readFileSync } from 'node:fs'

export type CsvRow = {
  /** File and line, for messages. */
  readonly where: string
  text(column: string): string
  /** A whole number from 0. */
  count(column: string): number
  /** A number from 0. */
  number(column: string): number
}

/** The rows of a CSV without quotes, as these traces are. Columns that are not there are an error, others are not read. */
export function readCsv(path: string, columns: readonly string[]): CsvRow[] {
  const [head, ...lines] = readFileSync(path, 'utf8').trimEnd().split(/\r?\n/)
  const names = head!.split(',')
  const missing = columns.filter((column) => !names.includes(column))
  if (missing.length > 0) throw new Error(`${path} has no column ${missing.join(', ')}; it has ${head}`)
  return lines.map((line, index) => {
    const cells = line.split(',')
    const where = `${path}:${index + 2}`
    const text = (column: string) => cells[names.indexOf(column)] ?? ''
    const numberOf = (column: string, { isWhole }: { isWhole: boolean }) => {
      const value = Number(text(column))
      if (text(column) === '' || !(value >= 0) || (isWhole && !Number.isInteger(value)))
        throw new Error(`${where}: ${column} is "${text(column)}" and should be a ${isWhole ? 'whole ' : ''}number`)
      return value
    }
    return {
      where,
      text,
      count: (column) => numberOf(column, { isWhole: true }),
      number: (column) => numberOf(column, { isWhole: false }),
    }
  })
}
