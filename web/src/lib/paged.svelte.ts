import { Query } from './query.svelte.ts'

type Page<T> = { items: T[]; next_cursor: string | null }
type LoadPage<T> = (page: { cursor?: string | undefined; limit: number }, signal: AbortSignal) => Promise<Page<T>>

/** A list that grows by a page at a time. Loading it again keeps its length. */
export class Paged<T extends { id: string } | { seq: number }> {
  readonly query: Query<T[]>
  hasMore = $state(false)
  isGrowing = $state(false)
  #cursor: string | null = null
  readonly #load: LoadPage<T>
  readonly #limit: number

  constructor(load: LoadPage<T>, limit = 50) {
    this.#load = load
    this.#limit = limit
    this.query = new Query(async (signal) => {
      const wanted = this.query.data?.length ?? 0
      let items: T[] = []
      let cursor: string | null = null
      do {
        const page: Page<T> = await load({ cursor: cursor ?? undefined, limit }, signal)
        items = [...items, ...page.items]
        cursor = page.next_cursor
      } while (cursor !== null && items.length < wanted)
      this.#turnTo(cursor)
      return items
    })
  }

  /** Another list: its length is its own. */
  restart = (): (() => void) => {
    this.query.data = undefined
    return this.query.follow()
  }

  more = async () => {
    if (this.isGrowing || this.#cursor === null) return
    this.isGrowing = true
    try {
      const page = await this.#load({ cursor: this.#cursor, limit: this.#limit }, new AbortController().signal)
      const known = new Set((this.query.data ?? []).map(keyOf))
      this.query.data = [...(this.query.data ?? []), ...page.items.filter((item) => !known.has(keyOf(item)))]
      this.#turnTo(page.next_cursor)
    } finally {
      this.isGrowing = false
    }
  }

  #turnTo(cursor: string | null) {
    this.#cursor = cursor
    this.hasMore = cursor !== null
  }
}

const keyOf = (item: { id: string } | { seq: number }) => ('id' in item ? item.id : item.seq)
