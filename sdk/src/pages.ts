import type { CallOptions } from './connection.ts'

type ListCall<I, T> = (input: I, options?: CallOptions) => Promise<{ items: T[]; next_cursor: string | null }>

/**
 * Every item of a list, page by page as it is consumed.
 *
 *     for await (const task of pages(client.tasks.list, { status: 'failed' })) …
 */
export async function* pages<I extends { cursor?: string }, T>(
  list: ListCall<I, T>,
  input: Omit<NoInfer<I>, 'cursor'>,
  options: CallOptions = {},
): AsyncGenerator<T, void, undefined> {
  let cursor: string | undefined
  do {
    const page = await list({ ...input, cursor } as I, options)
    yield* page.items
    cursor = page.next_cursor ?? undefined
  } while (cursor !== undefined)
}
