import type { Context } from '../context.ts'
import type { Feed, Outlet } from './feed.ts'

export type StateSource = {
  /** Calls `changed` with the name of what has changed. The result unsubscribes. */
  subscribe(changed: (name: string) => void): () => void
  /** Names of all that is told at the start. */
  initial: readonly string[]
  /** Tells how things with these names are now. */
  tell(names: readonly string[]): Promise<void> | void
  /** How often it tells at most. */
  periodMs: number
}
type Parts = { source: StateSource; outlet: Outlet; failed(error: unknown): void }

/** Tells one watcher how something is, as often as it may, as the newest state: only names of what has changed are kept. */
export function createStateFeed(context: Pick<Context, 'clock'>, { source, outlet, failed }: Parts): Feed {
  const changed = new Set<string>(source.initial)
  let stopped = false
  let isBusy = false
  let cancel: (() => void) | null = null
  const unsubscribe = source.subscribe((name) => {
    changed.add(name)
    cancel ??= context.clock.after(source.periodMs, () => void flush())
  })

  function stop() {
    stopped = true
    unsubscribe()
    cancel?.()
  }

  async function flush() {
    cancel = null
    if (stopped || isBusy || changed.size === 0 || !outlet.isClear()) return
    const names = [...changed]
    changed.clear()
    isBusy = true
    try {
      await source.tell(names)
    } catch (error) {
      if (!stopped) failed(error)
      stop()
    } finally {
      isBusy = false
    }
    if (changed.size > 0 && !stopped) cancel ??= context.clock.after(source.periodMs, () => void flush())
  }

  return { start: flush, resume: () => void flush(), stop, cursor: () => null }
}
