/** One number that a bench stands for. */
export type Figure = {
  /** Like "packing.at_100": the bench, then what it is. */
  readonly figure: string
  readonly value: number
  readonly unit: string
}

export function say(line = '') {
  process.stdout.write(`${line}\n`)
}

/** Four digits are more than any of these is good for. */
export function round(value: number): number {
  return Math.abs(value) >= 1_000 ? Math.round(value) : Number(value.toPrecision(4))
}

/** The middle one; of an even number the mean of the two in the middle. */
export function median(values: readonly number[]): number {
  return (percentile(values, 0.5, 'lower') + percentile(values, 0.5, 'upper')) / 2
}

/** The value that this share of the values does not exceed. */
export function percentile(values: readonly number[], share: number, side: 'lower' | 'upper' = 'upper'): number {
  if (values.length === 0) throw new Error('of no values there is no percentile')
  const sorted = Float64Array.from(values).sort()
  const at = share * sorted.length
  const index = side === 'lower' ? Math.ceil(at) - 1 : Math.floor(at)
  return sorted[Math.min(sorted.length - 1, Math.max(0, index))]!
}

export const mean = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length

/** Columns of equal width; the first one to the left, the others to the right. */
export function table(rows: readonly (readonly string[])[]): string {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)))
  const pad = (cell: string, column: number) =>
    column === 0 ? cell.padEnd(widths[0]!) : cell.padStart(widths[column]!)
  return rows.map((row) => row.map(pad).join('  ').trimEnd()).join('\n')
}
