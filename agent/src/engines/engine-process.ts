import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { createRequire } from 'node:module'
import { extname } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath, pathToFileURL } from 'node:url'
import type { Clock } from '../clock.ts'
import { cancelReason } from '../executors/cancel-reason.ts'
import { AttemptError, type AttemptInput, type AttemptReport } from '../executors/executor.ts'
import { type EngineArguments, type EngineReply, type EngineRequest, leaseOverExitCode } from './engine-protocol.ts'

export type EngineProcessOptions = {
  /** The program of the engine; see `engineEntry`. */
  readonly entry: URL
  readonly enginesFolder: string | null
  /** All that the process sees of the environment. */
  readonly environment: Readonly<Record<string, string>>
  readonly clock: Clock
  /** What the engine's native library prints, line by line. */
  log(line: string): void
  /** How long the engine goes on without a sign of life from the agent. */
  readonly leaseMs?: number
}

export type EngineRun = {
  readonly params: unknown
  readonly report: AttemptReport
  readonly signal: AbortSignal
  /** How long it may take: see the executor's interface. */
  readonly attempt: Pick<AttemptInput, 'durationMsMax' | 'remainingMs'>
}

const leaseMsDefault = 10_000
/** After this long a cancelled engine is killed: executors promise to stop within two seconds. */
const cancelMsMax = 1_500
/** Loading the code of an engine takes 0.1 to 2 s; on a machine that is swapping, much more. */
const startMsMax = 60_000
const stderrLinesKept = 50

/** The program of an engine: TypeScript in a checkout, JavaScript in the bundle, in both beside this file. */
export function engineEntry(name: string): URL {
  return new URL(`./${name}${extname(import.meta.url)}`, import.meta.url)
}

/**
 * An engine's child process, started when it is first needed and kept warm. The only place that starts one.
 * The dialogue is in engine-protocol.ts. Whatever goes wrong with the process ends the request at hand with an
 * AttemptError, and the next request starts a fresh process.
 */
export class EngineProcess {
  readonly #options: EngineProcessOptions
  #child: Child | null = null
  #busy = false

  constructor(options: EngineProcessOptions) {
    this.#options = options
  }

  pid(): number | null {
    return this.#child?.process.pid ?? null
  }

  /** What the engine's library can use; rejects with an AttemptError when it cannot be loaded. */
  async check(): Promise<Record<string, unknown>> {
    const never = new AbortController().signal
    return await this.#alone(never, async (child) => {
      return await converse(child, { request: { type: 'check' }, signal: never, onReply: () => {} })
    })
  }

  async run(run: EngineRun): Promise<Record<string, unknown>> {
    return await this.#alone(run.signal, async (child) => {
      const settled = new AbortController()
      const stop = () => void this.#cancel(child, settled.signal)
      run.signal.addEventListener('abort', stop)
      const leaseMs = this.#leaseOf(run)
      void this.#keepLease(child, leaseMs, settled.signal)
      try {
        const request: EngineRequest = { type: 'run', params: run.params, leaseMs: leaseMs() }
        const onReply = (reply: EngineReply) => forward(reply, run, child)
        return await converse(child, { request, signal: run.signal, onReply })
      } finally {
        run.signal.removeEventListener('abort', stop)
        settled.abort()
      }
    })
  }

  /** Ends the process, whatever it is doing. */
  async close(): Promise<void> {
    const child = this.#child
    if (child === null) return
    // Whoever asks next gets a fresh one, even before this one is gone.
    this.#child = null
    child.process.kill('SIGKILL')
    await child.exited
  }

  async #alone<Result>(signal: AbortSignal, work: (child: Child) => Promise<Result>): Promise<Result> {
    if (signal.aborted) throw cancelReason(signal)
    if (this.#busy) throw new Error('an engine does one thing at a time')
    this.#busy = true
    try {
      this.#child ??= this.#start()
      await this.#hello(this.#child, signal)
      return await work(this.#child)
    } finally {
      this.#busy = false
    }
  }

  #start(): Child {
    const { entry, environment, enginesFolder } = this.#options
    const engineArguments: EngineArguments = { enginesFolder }
    const child = fork(fileURLToPath(entry), [JSON.stringify(engineArguments)], {
      env: { ...environment },
      execArgv: entry.pathname.endsWith('.ts') ? ['--import', typescriptLoader()] : [],
      serialization: 'advanced',
      stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    })
    const started: Child = { process: child, stderr: [], hello: once(child, 'message'), exited: exitOf(child) }
    // A start that fails is told by `exited`.
    started.hello.catch(() => {})
    void started.exited.then(() => {
      if (this.#child === started) this.#child = null
    })
    this.#keepLines(started)
    return started
  }

  #keepLines(child: Child): void {
    for (const stream of [child.process.stdout, child.process.stderr]) {
      if (!stream) continue
      createInterface({ input: stream }).on('line', (line) => {
        child.stderr.push(line)
        if (child.stderr.length > stderrLinesKept) child.stderr.shift()
        this.#options.log(line)
      })
    }
  }

  /** Waits for a process to be ready for requests. When it is cancelled the process goes on, for the next request. */
  async #hello(child: Child, signal: AbortSignal): Promise<void> {
    const settled = new AbortController()
    const tooLate = this.#options.clock.sleep(startMsMax, settled.signal).then(() => child.process.kill('SIGKILL'))
    tooLate.catch(() => {})
    const cancelled = new Promise<never>((_resolve, reject) => {
      signal.addEventListener('abort', () => reject(cancelReason(signal)), { signal: settled.signal })
    })
    const ended = child.exited.then((exit) => Promise.reject(exitError(child, exit)))
    try {
      await Promise.race([child.hello, ended, cancelled])
    } finally {
      settled.abort()
      ended.catch(() => {})
    }
  }

  /** Counts from now: how long the engine may go on without hearing more, never past the attempt's deadline. */
  #leaseOf({ attempt }: EngineRun): () => number {
    const { clock, leaseMs = leaseMsDefault } = this.#options
    const startedAt = clock.now()
    const remainingMs = attempt.remainingMs ?? (() => attempt.durationMsMax - (clock.now() - startedAt))
    return () => Math.max(0, Math.min(remainingMs(), leaseMs))
  }

  /** Renews the engine's lease until the run has settled. At its deadline the lease is simply not renewed any more. */
  async #keepLease(child: Child, leaseMs: () => number, settled: AbortSignal): Promise<void> {
    const renewMs = (this.#options.leaseMs ?? leaseMsDefault) / 4
    while (!settled.aborted) {
      await this.#options.clock.sleep(renewMs, settled).catch(() => {})
      if (!settled.aborted) send(child, { type: 'renew', leaseMs: leaseMs() })
    }
  }

  async #cancel(child: Child, settled: AbortSignal): Promise<void> {
    send(child, { type: 'cancel' })
    await this.#options.clock.sleep(cancelMsMax, settled).catch(() => {})
    if (!settled.aborted) child.process.kill('SIGKILL')
  }
}

type Child = {
  readonly process: ChildProcess
  readonly hello: Promise<unknown>
  readonly exited: Promise<Exit>
  /** The last lines that it printed, for the message of a crash. */
  readonly stderr: string[]
}
type Exit = { readonly code: number | null; readonly signal: string | null }

type Conversation = {
  readonly request: EngineRequest
  readonly signal: AbortSignal
  onReply(reply: EngineReply): void
}

/** Sends a request and hears the engine out, until it is done, has failed, or has ended. */
async function converse(child: Child, { request, signal, onReply }: Conversation): Promise<Record<string, unknown>> {
  return await new Promise((resolve, reject) => {
    const settle = (settled: () => void) => {
      child.process.off('message', onMessage)
      // Work that ends just as it is cancelled was cancelled all the same.
      if (signal.aborted) reject(cancelReason(signal))
      else settled()
    }
    const onMessage = (message: unknown) => {
      const reply = message as EngineReply
      if (reply.type === 'done') settle(() => resolve(reply.output))
      else if (reply.type === 'failed') settle(() => reject(new AttemptError(reply.code, reply.message, reply.fault)))
      else if (!signal.aborted) onReply(reply)
    }
    child.process.on('message', onMessage)
    void child.exited.then((exit) => settle(() => reject(exitError(child, exit))))
    send(child, request)
  })
}

function forward(reply: EngineReply, run: EngineRun, child: Child): void {
  switch (reply.type) {
    case 'preparing':
      return run.report.preparing('load', reply.fraction)
    case 'ready':
      run.report.ready()
      if (!run.signal.aborted) send(child, { type: 'go' })
      return
    case 'output':
      return run.report.output(reply.text)
    case 'log':
      return run.report.log(reply.line)
    case 'file':
      return run.report.file(reply.file)
    case 'hello':
    case 'done':
    case 'failed':
      // They begin and end a conversation; what is in between is passed on here.
      return
  }
}

/** A request that cannot be sent needs no handling of its own: the process is gone, and its end is told by `exited`. */
function send(child: Child, request: EngineRequest): void {
  if (child.process.connected) child.process.send(request, () => {})
}

async function exitOf(child: ChildProcess): Promise<Exit> {
  return await new Promise((resolve) => {
    child.on('exit', (code, signal) => resolve({ code, signal }))
    child.on('error', () => resolve({ code: null, signal: null }))
  })
}

function exitError(child: Child, exit: Exit): AttemptError {
  if (exit.code === leaseOverExitCode) {
    return new AttemptError('deadline_passed', 'The engine stopped: its time was over and was not renewed.', 'provider')
  }
  const how = exit.signal ?? (exit.code === null ? 'it could not be started' : `exit code ${exit.code}`)
  // After what went wrong a native library often prints where it was.
  const lastLine =
    child.stderr.findLast((line) => /\berror\b/i.test(line)) ?? child.stderr.findLast((line) => line.trim() !== '')
  const message = `The engine's process ended unexpectedly (${how})${lastLine === undefined ? '.' : `: ${lastLine.trim()}`}`
  return new AttemptError('engine_crashed', message, 'provider')
}

function typescriptLoader(): string {
  return pathToFileURL(createRequire(import.meta.url).resolve('tsx')).href
}
