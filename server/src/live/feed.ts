/** The way to a watcher. While it is not clear, what is sent only makes it longer. */
export type Outlet = { isClear(): boolean }

/** What tells one watcher of one subject. */
export type Feed = {
  /** Resolves once what is there already has been told, or the outlet is full. */
  start(): Promise<void>
  /** The outlet is clear again. */
  resume(): void
  stop(): void
  /** For those that follow the log: up to where everything was told. */
  cursor(): number | null
}
