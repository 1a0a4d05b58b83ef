import type { OutputFile } from '../executors/executor.ts'

/**
 * What the agent and an engine's child process say to each other, over Node's IPC channel, one request at a time.
 *
 *   agent                       engine
 *     │ ◄──────────────── hello │   its code is loaded
 *     │ run, leaseMs ─────────► │   or `check`: load the native library and say what it can use
 *     │ ◄──── preparing, log …  │
 *     │ ◄──────────────── ready │   weights are loaded; it waits
 *     │ go ───────────────────► │   the meter runs from here
 *     │ renew, leaseMs ───────► │   every few seconds, all the while
 *     │ ◄─ output, log, file …  │
 *     │ ◄─────── done or failed │
 *
 * `cancel` may come at any time and is answered by `failed`. The lease is what makes the engine stop when nobody can tell
 * it to: it ends its own process when the lease runs out without a renewal, and when the channel closes.
 */
export type EngineRequest =
  | { readonly type: 'check' }
  | { readonly type: 'run'; readonly params: unknown; readonly leaseMs: number }
  | { readonly type: 'go' }
  | { readonly type: 'renew'; readonly leaseMs: number }
  | { readonly type: 'cancel' }

export type EngineReply =
  | { readonly type: 'hello' }
  | { readonly type: 'preparing'; readonly fraction: number | null }
  | { readonly type: 'ready' }
  | { readonly type: 'output'; readonly text: string }
  | { readonly type: 'log'; readonly line: string }
  | { readonly type: 'file'; readonly file: OutputFile }
  | { readonly type: 'done'; readonly output: Record<string, unknown> }
  | { readonly type: 'failed'; readonly code: string; readonly message: string; readonly fault: 'renter' | 'provider' }

/** Exit status of an engine whose lease ran out. */
export const leaseOverExitCode = 75

/** What an engine's process is told on its command line, as JSON. */
export type EngineArguments = {
  /** Where this machine's engines are installed; null: they are found beside the agent's own code. */
  readonly enginesFolder: string | null
}
