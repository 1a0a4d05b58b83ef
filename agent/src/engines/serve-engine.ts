import { elapsedMsAtLeast, momentNow, type Moment, type MonotonicClock } from '../clock.ts'
import { AttemptError, type OutputFile } from '../executors/executor.ts'
import { type EngineReply, type EngineRequest, leaseOverExitCode } from './engine-protocol.ts'

/** A native library behind two questions. It lives in a process of its own and does one thing at a time. */
export interface Engine {
  /** Loads the library and says what it can use; rejects when it cannot. */
  check(): Promise<Record<string, unknown>>
  run(params: unknown, context: EngineContext): Promise<Record<string, unknown>>
}

export type EngineContext = {
  readonly signal: AbortSignal
  preparing(fraction: number | null): void
  /** Resolves when the agent has started the meter: work begins after it. Rejects when the attempt is cancelled. */
  ready(): Promise<void>
  output(text: string): void
  log(line: string): void
  file(file: OutputFile): void
}

/** The process that an engine runs in. */
export type EngineHost = {
  readonly clock: MonotonicClock
  send(reply: EngineReply): void
  onRequest(listener: (request: EngineRequest) => void): void
  onDisconnect(listener: () => void): void
  exit(code: number): void
}

/** Answers the agent's requests for as long as the channel is open. See engine-protocol.ts for the dialogue. */
export function serveEngine(engine: Engine, host: EngineHost): void {
  let running: Running | null = null

  host.onDisconnect(() => host.exit(0))
  host.onRequest((request) => {
    switch (request.type) {
      case 'check':
        return void answer(host, engine.check())
      case 'run': {
        const started = startRun(host, request.leaseMs)
        running = started
        return void answer(host, engine.run(request.params, started.context)).then(() => {
          started.end()
          running = null
        })
      }
      case 'go':
        return running?.go()
      case 'renew':
        return running?.renew(request.leaseMs)
      case 'cancel':
        return running?.cancel()
    }
  })
  host.send({ type: 'hello' })
}

type Running = {
  readonly context: EngineContext
  go(): void
  renew(leaseMs: number): void
  cancel(): void
  end(): void
}

function startRun(host: EngineHost, leaseMs: number): Running {
  const cancelled = new AbortController()
  const ended = new AbortController()
  let lease: Lease = { since: momentNow(host.clock), ms: leaseMs }
  let go = () => {}
  const started = new Promise<void>((resolve, reject) => {
    go = resolve
    cancelled.signal.addEventListener('abort', () => reject(cancelled.signal.reason))
  })
  // Nobody waits for it when the run fails before it is ready.
  started.catch(() => {})
  void watchLease(host, () => lease, ended.signal)

  return {
    context: {
      signal: cancelled.signal,
      preparing: (fraction) => host.send({ type: 'preparing', fraction }),
      async ready() {
        cancelled.signal.throwIfAborted()
        host.send({ type: 'ready' })
        await started
      },
      output: (text) => host.send({ type: 'output', text }),
      log: (line) => host.send({ type: 'log', line }),
      file: (file) => host.send({ type: 'file', file }),
    },
    go: () => go(),
    renew: (renewedMs) => {
      lease = { since: momentNow(host.clock), ms: renewedMs }
    },
    cancel: () => cancelled.abort(new AttemptError('cancelled', 'The attempt was cancelled.', 'renter')),
    end: () => ended.abort(),
  }
}

type Lease = { readonly since: Moment; readonly ms: number }

/** Ends the process when the lease is over: whoever should have stopped this work is frozen or gone. */
async function watchLease(host: EngineHost, currentLease: () => Lease, ended: AbortSignal): Promise<void> {
  // Looks at the clock at least once a second, because a machine that was asleep does not wake a long timer in time.
  const stepMs = 1_000
  while (!ended.aborted) {
    const { since, ms } = currentLease()
    const leftMs = ms - elapsedMsAtLeast(host.clock, since)
    if (leftMs <= 0) return host.exit(leaseOverExitCode)
    await host.clock.sleep(Math.min(leftMs, stepMs), ended).catch(() => {})
  }
}

async function answer(host: EngineHost, work: Promise<Record<string, unknown>>): Promise<void> {
  try {
    host.send({ type: 'done', output: await work })
  } catch (error) {
    const { code, message, fault } = asAttemptError(error)
    host.send({ type: 'failed', code, message, fault })
  }
}

function asAttemptError(error: unknown): AttemptError {
  if (error instanceof AttemptError) return error
  return new AttemptError('engine_failed', error instanceof Error ? error.message : String(error), 'provider')
}
