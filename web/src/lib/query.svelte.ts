import { OrbyteError } from '@orbyte/sdk'
import { untrack } from 'svelte'

/**
 * Something that is loaded from the market and shown: its data, or why there is none. Loading again keeps what is shown until
 * the new data is there. Answers that were overtaken by a newer question are dropped.
 */
export class Query<T> {
  data = $state.raw<T>()
  error = $state.raw<OrbyteError | null>(null)
  isLoading = $state(false)
  readonly #load: (signal: AbortSignal) => Promise<T>
  #asked: AbortController | null = null

  constructor(load: (signal: AbortSignal) => Promise<T>) {
    this.#load = load
  }

  /** For an `$effect`, which names what it asks again for. */
  follow = (): (() => void) => {
    void this.reload()
    return () => this.#asked?.abort()
  }

  /** What `load` reads is not tracked. */
  reload = async (): Promise<void> => {
    this.#asked?.abort()
    const asked = new AbortController()
    this.#asked = asked
    this.isLoading = true
    try {
      const data = await untrack(() => this.#load(asked.signal))
      if (asked.signal.aborted) return
      this.data = data
      this.error = null
    } catch (error) {
      if (asked.signal.aborted) return
      this.error = asOrbyteError(error)
    } finally {
      if (this.#asked === asked) this.isLoading = false
    }
  }
}

/** One thing that a person does: whether it is under way, and why it did not work. */
export class Action<A extends unknown[]> {
  isBusy = $state(false)
  error = $state.raw<OrbyteError | null>(null)
  readonly #act: (...given: A) => Promise<unknown>

  constructor(act: (...given: A) => Promise<unknown>) {
    this.#act = act
  }

  /** Resolves with whether it worked. */
  run = async (...given: A): Promise<boolean> => {
    if (this.isBusy) return false
    this.isBusy = true
    this.error = null
    try {
      await this.#act(...given)
      return true
    } catch (error) {
      this.error = asOrbyteError(error)
      return false
    } finally {
      this.isBusy = false
    }
  }

  /** What the market says of one field. */
  fieldError(field: string): string | undefined {
    return this.error?.errors.find((one) => one.field === field || one.field.endsWith(`.${field}`))?.message
  }
}

function asOrbyteError(error: unknown): OrbyteError {
  if (error instanceof OrbyteError) return error
  throw error
}
