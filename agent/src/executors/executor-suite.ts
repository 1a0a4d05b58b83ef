import { type TaskType, taskInputs, taskOutputs } from '@orbyte/protocol'
import { afterAll, describe, expect, test } from 'vitest'
import type { AttemptInput, AttemptReport, Executor, LocalModel, OutputFile } from './executor.ts'

export type SuiteSubject = {
  readonly name: string
  readonly executor: Executor
  readonly taskType: TaskType
  readonly input: Record<string, unknown>
  /** An input whose work takes long enough to be stopped in the middle. Default: `input`. */
  readonly longInput?: Record<string, unknown>
  readonly model?: LocalModel
  /** Whether the same input gives the same output and files, byte for byte. */
  readonly isDeterministic: boolean
  /** Kills what does the work, where that is another process of ours. */
  readonly crash?: () => void
}

/** What every executor has to pass. See executor.ts for the rules. */
export function executorSuite(subject: SuiteSubject): void {
  const { executor, taskType, input, longInput = input, crash } = subject

  describe(`${subject.name} executor`, { timeout: 60_000 }, () => {
    afterAll(() => executor.close())

    test('works on this machine', async () => {
      expect(await executor.check()).toBeNull()
    })

    test('claims the task type', () => {
      expect(executor.taskTypes).toContain(taskType)
    })

    test('is ready exactly once, and before any output', async () => {
      const { output, report } = await runAttempt(subject, input)
      taskOutputs[taskType].parse(output)
      const isOutput = (event: string) => event === 'output' || event === 'file'
      expect(report.events.filter((event) => event === 'ready')).toHaveLength(1)
      expect(report.events.slice(0, report.events.indexOf('ready')).filter(isOutput)).toEqual([])
      expect(report.events.slice(report.events.indexOf('ready'))).not.toContain('preparing')
    })

    test('runs one attempt after another', async () => {
      const first = await runAttempt(subject, input)
      const second = await runAttempt(subject, input)
      expect(Object.keys(second.output)).toEqual(Object.keys(first.output))
      expect(second.report.events.filter((event) => event === 'file')).toHaveLength(first.report.files.length)
    })

    test.runIf(subject.isDeterministic)('gives the same output for the same input and seed', async () => {
      const first = await runAttempt(subject, input)
      const second = await runAttempt(subject, input)
      expect(second.output).toEqual(first.output)
      expect(second.report.text()).toBe(first.report.text())
      expect(second.report.files).toEqual(first.report.files)
    })

    test('names each file once', async () => {
      const { report } = await runAttempt(subject, input)
      const names = report.files.map((file) => file.name)
      expect(new Set(names).size).toBe(names.length)
    })

    test('does not start an attempt that is cancelled already', async () => {
      const report = recordReport()
      const signal = AbortSignal.abort(new Error('cancelled by the test'))
      await expect(executor.run(attemptOf(subject, input), report, signal)).rejects.toThrow()
      expect(report.events).not.toContain('ready')
    })

    test('stops when it is cancelled at work, reports nothing more, and works again', async () => {
      const cancel = new AbortController()
      const report = recordReport({ onReady: () => cancel.abort(new Error('cancelled by the test')) })
      await expect(executor.run(attemptOf(subject, longInput), report, cancel.signal)).rejects.toThrow()
      const reported = report.events.length
      await runAttempt(subject, input)
      expect(report.events).toHaveLength(reported)
    })

    test.runIf(crash !== undefined)('survives a crash of its engine, and works again', async () => {
      const report = recordReport({ onReady: crash })
      const run = executor.run(attemptOf(subject, longInput), report, new AbortController().signal)
      await expect(run).rejects.toMatchObject({ code: 'engine_crashed', fault: 'provider' })
      await runAttempt(subject, input)
    })
  })
}

export function attemptOf(subject: SuiteSubject, input: Record<string, unknown>): AttemptInput {
  const { taskType, model = null } = subject
  return {
    attemptId: 'attempt-1',
    taskType,
    input: taskInputs[taskType].parse(input) as Record<string, unknown>,
    model,
    devices: [{ uuid: 'cpu-0', kind: 'cpu', index: 0, milli: 1_000, vramMib: null }],
    durationMsMax: 60_000,
  }
}

/** Runs one attempt to its end. */
export async function runAttempt(subject: SuiteSubject, input: Record<string, unknown>) {
  const report = recordReport()
  const signal = new AbortController().signal
  const output = await subject.executor.run(attemptOf(subject, input), report, signal)
  return { output, report }
}

export type RecordedReport = AttemptReport & {
  readonly events: string[]
  readonly files: OutputFile[]
  readonly logLines: string[]
  /** All output so far. */
  text(): string
}

type Reactions = { onReady?: () => void; onOutput?: () => void; onFile?: () => void }

export function recordReport({ onReady, onOutput, onFile }: Reactions = {}): RecordedReport {
  const events: string[] = []
  const files: OutputFile[] = []
  const logLines: string[] = []
  const chunks: string[] = []
  return {
    events,
    files,
    logLines,
    text: () => chunks.join(''),
    preparing: () => void events.push('preparing'),
    ready() {
      events.push('ready')
      onReady?.()
    },
    output(text) {
      events.push('output')
      chunks.push(text)
      onOutput?.()
    },
    log(line) {
      events.push('log')
      logLines.push(line)
    },
    file(file) {
      events.push('file')
      files.push(file)
      onFile?.()
    },
  }
}
