import { problem } from '@orbyte/protocol'

/** Pages of lists that are sorted by id, newest first. A cursor is opaque to clients. */
export type PageInput = { limit: number; cursor?: string }
export type Page<T> = { items: T[]; next_cursor: string | null }

const cursorMark = 'c1:'

export function encodeCursor(position: string): string {
  return Buffer.from(cursorMark + position).toString('base64url')
}

export function decodeCursor(cursor: string): string {
  const text = Buffer.from(cursor, 'base64url').toString()
  if (!text.startsWith(cursorMark))
    throw problem('invalid_cursor', 'Use the next_cursor of the page before, unchanged.')
  return text.slice(cursorMark.length)
}

/** The id that a page's items are below: everything, without a cursor. */
export function startOf(page: PageInput): string {
  return page.cursor === undefined ? '\u{10ffff}' : decodeCursor(page.cursor)
}

/** The page of `rows`, which were asked for with one more than `limit`. */
export function pageFrom<T extends { id: string }>(rows: T[], limit: number): Page<T> {
  const items = rows.slice(0, limit)
  return { items, next_cursor: rows.length > limit ? encodeCursor(items.at(-1)!.id) : null }
}
