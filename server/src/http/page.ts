import { problem } from '@orbyte/protocol'

/**
 * Pages of lists, newest first. A cursor is opaque to clients: the id of the last item of the page before, or its row where items
 * are not found by their ids.
 */
export type PageInput = { limit: number; cursor?: string }
export type Page<T> = { items: T[]; next_cursor: string | null }

const cursorMark = 'c1:'

export function encodeCursor(position: string): string {
  return Buffer.from(cursorMark + position).toString('base64url')
}

export function decodeCursor(cursor: string): string {
  const text = Buffer.from(cursor, 'base64url').toString()
  if (!text.startsWith(cursorMark)) throw invalidCursor()
  return text.slice(cursorMark.length)
}

const invalidCursor = () => problem('invalid_cursor', 'Use the next_cursor of the page before, unchanged.')

/** The id that a page's items are below: everything, without a cursor. */
export function startOf(page: PageInput): string {
  return page.cursor === undefined ? '\u{10ffff}' : decodeCursor(page.cursor)
}

/** The row that a page's items are below: everything, without a cursor. */
export function startRowOf(page: PageInput): number {
  const row = page.cursor === undefined ? Number.MAX_SAFE_INTEGER : Number(decodeCursor(page.cursor))
  if (!Number.isSafeInteger(row)) throw invalidCursor()
  return row
}

/** The page of `rows`, which were asked for with one more than `limit`. `placeOf`: what its cursor says. */
export function pageFrom<T extends { id: string }>(
  rows: T[],
  limit: number,
  placeOf: (item: T) => string = ({ id }) => id,
): Page<T> {
  const items = rows.slice(0, limit)
  return { items, next_cursor: rows.length > limit ? encodeCursor(placeOf(items.at(-1)!)) : null }
}
