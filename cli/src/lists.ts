import type { PageOptions } from './arguments.ts'

const pageItemsMax = 200

/** As many items as were asked for: a part of a page, several pages, or all of them. */
export async function fetchItems<I extends { cursor?: string; limit?: string | number }, T>(
  list: (input: I) => Promise<{ items: T[]; next_cursor: string | null }>,
  input: Omit<NoInfer<I>, 'cursor' | 'limit'>,
  { limit, all }: PageOptions,
): Promise<{ items: T[]; next_cursor: string | null }> {
  const itemsMax = all ? Number.POSITIVE_INFINITY : limit
  const items: T[] = []
  let cursor: string | null = null
  do {
    const asked = { ...input, limit: Math.min(pageItemsMax, itemsMax - items.length), cursor: cursor ?? undefined }
    const page = await list(asked as unknown as I)
    items.push(...page.items)
    cursor = page.next_cursor
  } while (cursor !== null && items.length < itemsMax)
  return { items, next_cursor: cursor }
}
