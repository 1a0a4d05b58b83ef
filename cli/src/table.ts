import { oneLine } from '@orbyte/protocol'
import { textWidth, truncate } from './text-width.ts'

export type Column<T> = {
  title: string
  value: (row: T) => string | number | null
  /** Numbers and amounts. */
  right?: boolean
  /** Gets narrower when the terminal is. Columns that are copied (ids) do not. */
  shrinks?: boolean
  paint?: (text: string, row: T) => string
}
export type TableStyle = {
  /** Columns of the terminal; null: as wide as it is. */
  width: number | null
  bold: (text: string) => string
}

const gap = '  '
const narrowest = 8

/** Aligned columns under a line of titles. An empty value is a dash. */
export function table<T>(rows: readonly T[], columns: readonly Column<T>[], style: TableStyle): string {
  const cells = rows.map((row) => columns.map(({ value }) => oneLine(String(value(row) ?? '')) || '-'))
  const titles = columns.map(({ title }) => title.toUpperCase())
  const widths = columns.map((_, at) => Math.max(...[titles, ...cells].map((line) => textWidth(line[at]!))))
  if (style.width !== null) shrink(widths, columns, style.width)
  const line = (texts: readonly string[], paint: (text: string, at: number) => string) =>
    texts
      .map((text, at) => {
        const shown = truncate(text, widths[at]!)
        const space = ' '.repeat(widths[at]! - textWidth(shown))
        const isLast = at === columns.length - 1
        if (columns[at]!.right) return space + paint(shown, at)
        return paint(shown, at) + (isLast ? '' : space)
      })
      .join(gap)
  return [
    line(titles, style.bold),
    ...cells.map((texts, index) => line(texts, (text, at) => columns[at]!.paint?.(text, rows[index]!) ?? text)),
  ].join('\n')
}

/** Takes from the widest columns that may shrink until the table fits. */
function shrink<T>(widths: number[], columns: readonly Column<T>[], widthMax: number) {
  const total = () => widths.reduce((sum, width) => sum + width, 0) + gap.length * (widths.length - 1)
  for (;;) {
    const widest = Math.max(...widths.filter((_, at) => columns[at]!.shrinks))
    if (total() <= widthMax || widest <= narrowest) return
    widths[widths.findIndex((width, at) => columns[at]!.shrinks && width === widest)]!--
  }
}

/** Names and values, one a line. */
export function details(fields: readonly (readonly [name: string, value: string | number | null])[]): string {
  const shown = fields.filter(([, value]) => value !== null && value !== '')
  const width = Math.max(...shown.map(([name]) => textWidth(name)))
  return shown
    .map(([name, value]) => `${name}${' '.repeat(width - textWidth(name))}  ${oneLine(String(value))}`)
    .join('\n')
}
