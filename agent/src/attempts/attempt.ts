import { agentMessageBytesMax, type TaskInput, taskInputs } from '@orbyte/protocol'
import { elapsedMsAtLeast, type Moment, type MonotonicClock } from '../clock.ts'
import type { HeldAttempt, ReliableMessage, ReliableMessageOf } from '../connection/wire-messages.ts'
import { AttemptError, type Executor, type ExecutorDevice, type LocalModel } from '../executors/executor.ts'
import type { ModelCache } from '../model-cache/model-cache.ts'
import type { AttemptStart } from './admission.ts'
import { AttemptOutput } from './attempt-output.ts'
import type { AttemptName } from './result-journal.ts'

export type AttemptOptions = {
  readonly start: AttemptStart
  readonly devices: readonly ExecutorDevice[]
  readonly executor: Executor
  readonly models: ModelCache
  readonly clock: MonotonicClock
  /** From when `start.deadline_in_ms` counts. */
  readonly since: Moment
  send(message: ReliableMessage): boolean
}

export type AttemptEnd = Pick<
  ReliableMessageOf<'attempt.result'>,
  'outcome' | 'output_data' | 'code' | 'message' | 'fault'
>

/** Executors promise to stop within two seconds; one that does not is left behind. */
const stopMsMax = 3_000
/** How often the deadline is looked at: a machine that was asleep does not wake a long timer in time. */
const deadlineStepMs = 1_000
const progressMs = 500
/** Room for what stands around the output data in its message. */
const resultBytesMax = agentMessageBytesMax - 10_000

/** One attempt on this machine, from its acceptance to its end. */
export class Attempt {
  readonly name: AttemptName
  readonly start: AttemptStart
  readonly devices: readonly ExecutorDevice[]
  readonly executor: Executor
  /** Resolves when the executor has let go of the devices, which may be after the end. */
  readonly released: Promise<void>
  readonly #options: AttemptOptions
  readonly #output: AttemptOutput
  readonly #abort = new AbortController()
  readonly #over = new AbortController()
  #release = () => {}
  #status: Exclude<HeldAttempt['status'], 'ended'> = 'accepted'
  #deadline: { readonly since: Moment; readonly inMs: number }
  #readyAtMs: number | null = null
  #meterStoppedAtMs: number | null = null
  #end: AttemptEnd | null = null
  #progress = { phase: '', atMs: -Infinity }

  constructor(options: AttemptOptions) {
    const { start, clock, send } = options
    this.#options = options
    this.start = start
    this.devices = options.devices
    this.executor = options.executor
    this.name = { attempt_id: start.attempt_id, fencing_token: start.fencing_token }
    this.#deadline = { since: options.since, inMs: start.deadline_in_ms }
    this.released = new Promise((resolve) => (this.#release = resolve))
    this.#output = new AttemptOutput({
      attempt: this.name,
      clock,
      bytesMax: start.output_bytes_max,
      runMs: () => this.runMs(),
      send,
      onFailure: ({ code, message, fault }) =>
        this.stop({ outcome: 'failed', output_data: null, code, message, fault }),
    })
  }

  held(): HeldAttempt {
    return { ...this.name, status: this.#status, run_ms: this.runMs() }
  }

  /** Time since ready, up to the end or the moment it was told to stop. */
  runMs(): number {
    if (this.#readyAtMs === null) return 0
    const until = this.#meterStoppedAtMs ?? this.#options.clock.monotonicMs()
    return Math.max(0, Math.floor(until - this.#readyAtMs))
  }

  /** The deadline counts from a moment that lies before the server renewed it. */
  renew(since: Moment, inMs: number): void {
    this.#deadline = { since, inMs }
  }

  remainingMs(): number {
    return Math.max(0, this.#deadline.inMs - elapsedMsAtLeast(this.#options.clock, this.#deadline.since))
  }

  /** Ends it as said. The first to stop an attempt says why. */
  stop(end: AttemptEnd): void {
    if (this.#end !== null) return
    this.#end = end
    this.#meterStoppedAtMs ??= this.#options.clock.monotonicMs()
    if (end.outcome === 'failed') this.#output.flush()
    this.#output.close()
    this.#abort.abort(new AttemptError(end.code, end.message, end.fault ?? 'renter'))
  }

  /** Never rejects. */
  async run(): Promise<AttemptEnd> {
    void this.#watchDeadline()
    const work = this.#work()
    void work.finally(this.#release)
    const end = await Promise.race([work, this.#givenUp()])
    this.#meterStoppedAtMs ??= this.#options.clock.monotonicMs()
    this.#over.abort()
    this.#output.flush()
    this.#output.close()
    return this.#end ?? end
  }

  async #work(): Promise<AttemptEnd> {
    try {
      const model = await this.#fetchModel()
      const output = await this.#execute(model)
      this.#meterStoppedAtMs ??= this.#options.clock.monotonicMs()
      return this.#completed(output)
    } catch (error) {
      this.#meterStoppedAtMs ??= this.#options.clock.monotonicMs()
      return failureOf(error)
    }
  }

  async #fetchModel(): Promise<LocalModel | null> {
    const { start, models } = this.#options
    const { model } = start
    if (model === null) return null
    const onProgress = (received: number, total: number) => {
      this.#preparing(`fetching ${model.name}`, total === 0 ? null : received / total)
    }
    return await models.fetchModel(model, { signal: this.#abort.signal, onProgress })
  }

  async #execute(model: LocalModel | null): Promise<Record<string, unknown>> {
    const { start, devices, executor } = this.#options
    const { signal } = this.#abort
    signal.throwIfAborted()
    const loading = model === null ? 'loading' : `loading ${model.name}`
    return await executor.run(
      {
        attemptId: start.attempt_id,
        taskType: start.task_type,
        input: taskInputs[start.task_type].parse(start.input) as TaskInput & Record<string, unknown>,
        model,
        devices,
        durationMsMax: start.duration_ms_max,
        remainingMs: () => this.remainingMs(),
      },
      {
        preparing: (_phase, fraction) => this.#preparing(loading, fraction),
        ready: () => this.#ready(),
        output: (text) => this.#output.text(text),
        log: (line) => this.#output.log(line),
        file: (file) => this.#output.file(file),
      },
      signal,
    )
  }

  #preparing(phase: string, fraction: number | null): void {
    if (this.#readyAtMs !== null || this.#end !== null) return
    this.#status = 'preparing'
    const nowMs = this.#options.clock.monotonicMs()
    if (phase === this.#progress.phase && nowMs - this.#progress.atMs < progressMs && fraction !== 1) return
    this.#progress = { phase, atMs: nowMs }
    const progress = fraction === null ? phase : `${phase} ${Math.floor(fraction * 100)} %`
    this.#options.send({ type: 'attempt.preparing', ...this.name, progress: progress.slice(0, 200) })
  }

  #ready(): void {
    if (this.#readyAtMs !== null || this.#end !== null) return
    this.#status = 'running'
    this.#readyAtMs = this.#options.clock.monotonicMs()
    this.#options.send({ type: 'attempt.ready', ...this.name })
    void this.#watchMaximum()
  }

  #completed(output: Record<string, unknown>): AttemptEnd {
    const text = JSON.stringify(output)
    if (Buffer.byteLength(text) > resultBytesMax) {
      const message = `The output data is larger than the ${resultBytesMax} bytes that fit into one message. Ask for less at once.`
      return { outcome: 'failed', output_data: null, code: 'output_too_large', message, fault: 'renter' }
    }
    // Where it does not fit, the output says so itself, by `stop`.
    this.#output.flush()
    this.#output.fitsAtEnd(text)
    const output_data = JSON.parse(text) as AttemptEnd['output_data']
    return { outcome: 'completed', output_data, code: 'completed', message: '', fault: null }
  }

  async #watchDeadline(): Promise<void> {
    const over = this.#over.signal
    while (!over.aborted) {
      const leftMs = this.remainingMs()
      if (leftMs <= 0) return this.stop(deadlinePassed)
      await this.#options.clock.sleep(Math.min(leftMs, deadlineStepMs), over).catch(() => {})
    }
  }

  async #watchMaximum(): Promise<void> {
    const { duration_ms_max: durationMsMax } = this.start
    await this.#options.clock.sleep(durationMsMax, this.#over.signal).catch(() => {})
    if (this.#over.signal.aborted) return
    const message = `It ran for the ${durationMsMax} ms that the task allows, and had not ended.`
    this.stop({ outcome: 'failed', output_data: null, code: 'max_duration', message, fault: 'renter' })
  }

  /** An executor that does not stop does not keep the result from being told. */
  async #givenUp(): Promise<AttemptEnd> {
    await new Promise<void>((resolve) => this.#abort.signal.addEventListener('abort', () => resolve()))
    await this.#options.clock.sleep(stopMsMax, this.#over.signal).catch(() => {})
    return this.#end!
  }
}

const deadlinePassed: AttemptEnd = {
  outcome: 'stopped',
  output_data: null,
  code: 'deadline_passed',
  message: 'The agent lost touch with the market for too long, and stopped by itself.',
  fault: 'provider',
}

function failureOf(error: unknown): AttemptEnd {
  const known = error instanceof AttemptError ? error : null
  return {
    outcome: 'failed',
    output_data: null,
    code: (known?.code ?? 'executor_failed').slice(0, 100),
    message: (error instanceof Error ? error.message : String(error)).slice(0, 2_000),
    fault: known?.fault ?? 'provider',
  }
}
