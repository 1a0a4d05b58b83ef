import { expect, test } from 'vitest'
import type { Clock } from '../clock.ts'
import { systemClock } from '../system-clock.ts'
import { AttemptError } from './executor.ts'
import { attemptOf, executorSuite, recordReport, runAttempt, type SuiteSubject } from './executor-suite.ts'
import { createFakeExecutor } from './fake-executor.ts'

const subject: SuiteSubject = {
  name: 'fake',
  executor: createFakeExecutor({ clock: systemClock }),
  taskType: 'other',
  input: { output: 'hello world', chunks: 3, prepare_ms: 1, files: [{ name: 'a.txt', text: 'a' }] },
  longInput: { sleep_ms: 600_000 },
  isDeterministic: true,
}
executorSuite(subject)

test('it says that it is fake', async () => {
  const { output, report } = await runAttempt(subject, {})
  expect(output).toEqual({ fake: true, text: '', exit_code: 0 })
  expect(report.logLines[0]).toContain('fake')
})

test('text comes in the pieces that were asked for', async () => {
  const { report } = await runAttempt(subject, { output: 'hello world', chunks: 3 })
  expect(report.events.filter((event) => event === 'output')).toHaveLength(3)
  expect(report.text()).toBe('hello world')
})

test.each([
  [{ fail: 'out_of_memory' }, { code: 'out_of_memory', fault: 'provider' }],
  [{ fail: 'crash' }, { code: 'engine_crashed', fault: 'provider' }],
  [{ fail: 'renter_error' }, { code: 'renter_error', fault: 'renter' }],
  [{ exit_code: 3 }, { code: 'exit_code', fault: 'renter' }],
  [{ sleep_ms: -1 }, { code: 'invalid_input', fault: 'renter' }],
  [{ unheard_of: true }, { code: 'invalid_input', fault: 'renter' }],
])('%j fails as asked', async (input, error) => {
  await expect(runAttempt(subject, input)).rejects.toMatchObject(error)
})

test('all its time is the clock’s', async () => {
  let now = 0
  const clock: Clock = { now: () => now, sleep: async (ms) => void (now += ms) }
  const simulated = { ...subject, executor: createFakeExecutor({ clock }) }
  await runAttempt(simulated, { prepare_ms: 5_000, sleep_ms: 3_600_000, chunks: 4, output: 'abcd' })
  expect(now).toBe(3_605_000)
})

test('a cancel ends it with the reason that was given', async () => {
  const reason = new AttemptError('reclaimed', 'The owner took the GPU back.', 'provider')
  const run = subject.executor.run(attemptOf(subject, { sleep_ms: 600_000 }), recordReport(), AbortSignal.timeout(0))
  await expect(run).rejects.toMatchObject({ code: 'cancelled' })
  const cancel = new AbortController()
  const report = recordReport({ onReady: () => cancel.abort(reason) })
  const second = subject.executor.run(attemptOf(subject, { sleep_ms: 600_000 }), report, cancel.signal)
  await expect(second).rejects.toBe(reason)
})

test('it goes on when it is told to ignore a cancel', async () => {
  const cancel = new AbortController()
  const report = recordReport({ onReady: () => cancel.abort() })
  const deaf = attemptOf(subject, { ignore_cancel: true, sleep_ms: 1, output: 'done' })
  expect(await subject.executor.run(deaf, report, cancel.signal)).toMatchObject({ text: 'done' })
})
