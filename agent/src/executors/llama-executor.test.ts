import { expect, test } from 'vitest'
import { attemptOf, executorSuite, recordReport, runAttempt, type SuiteSubject } from './executor-suite.ts'
import { enginesForTest, storageForTest, tinylm } from './fixture-models.ts'
import { createLlamaExecutor } from './llama-executor.ts'

const engines = enginesForTest('llama-engine')
const subject: SuiteSubject = {
  name: 'llama',
  executor: createLlamaExecutor({ engines, storage: storageForTest(), processSpace: null }),
  taskType: 'text_generation',
  input: { messages: [{ role: 'user', content: 'Tell me a story.' }], seed: 7 },
  model: tinylm,
  isDeterministic: true,
  crash: () => engines.pids().forEach((pid) => process.kill(pid, 'SIGKILL')),
}
executorSuite(subject)

test('a question gets the answer that the model learned, streamed as it is produced', async () => {
  const ask = { messages: [{ role: 'user', content: 'What is the capital of France?' }], temperature: 0 }
  const { output, report } = await runAttempt(subject, ask)
  expect(output).toMatchObject({ text: 'The capital of France is Paris.', model: 'tinylm', finish_reason: 'stop' })
  expect(report.text()).toBe('The capital of France is Paris.')
  expect(report.events.filter((event) => event === 'output').length).toBeGreaterThan(3)
})

test('a conversation is remembered by its messages only', async () => {
  const question = { role: 'user', content: 'What is a CPU?' }
  const alone = await runAttempt(subject, { messages: [question], temperature: 0 })
  await runAttempt(subject, { messages: [{ role: 'user', content: 'Tell me a joke' }], temperature: 0 })
  const again = await runAttempt(subject, { messages: [question], temperature: 0 })
  expect(again.output).toEqual(alone.output)
})

test('a stop text is left out, even where it comes in several tokens', async () => {
  const start = { prompt: 'Once upon a time', seed: 42, max_tokens: 120 }
  const whole = String((await runAttempt(subject, start)).output['text'])
  for (const from of [10, 37, 80]) {
    const stop = whole.slice(from, from + 12)
    const { output, report } = await runAttempt(subject, { ...start, stop: [stop] })
    expect(output).toMatchObject({ text: whole.slice(0, whole.indexOf(stop)), finish_reason: 'stop' })
    expect(report.text()).toBe(output['text'])
  }
})

test('max_tokens ends the text with finish_reason "length"', async () => {
  const { output } = await runAttempt(subject, { prompt: 'Once upon a time', max_tokens: 5, seed: 1 })
  expect(output).toMatchObject({ finish_reason: 'length', completion_tokens: 5 })
})

test('a text ends where the context of the model ends', async () => {
  const words = 'Once upon a time there was a cat and a dog. '
  const { output } = await runAttempt(subject, { prompt: words.repeat(19), max_tokens: 1_000, temperature: 2, seed: 3 })
  expect(output['finish_reason']).toBe('length')
  expect(Number(output['prompt_tokens']) + Number(output['completion_tokens'])).toBeLessThanOrEqual(256)
})

test('a prompt that is longer than the context is the renter’s to shorten', async () => {
  const run = runAttempt(subject, { prompt: 'a long story '.repeat(500) })
  await expect(run).rejects.toMatchObject({ code: 'input_too_long', fault: 'renter' })
})

test('a system message that the model cannot take is left out, and the log says so', async () => {
  const messages = [
    { role: 'system', content: 'Answer in French.' },
    { role: 'user', content: 'What is the capital of Italy?' },
  ]
  const { output, report } = await runAttempt(subject, { messages, temperature: 0 })
  expect(output['text']).toBe('The capital of Italy is Rome.')
  expect(report.logLines).toEqual(['This model takes no system message: it was left out.'])
})

test('a model with a chat template of its own gets it', async () => {
  const templated = { ...subject, model: { ...tinylm, promptStyle: 'chat_template' as const } }
  const { output } = await runAttempt(templated, { messages: [{ role: 'user', content: 'Hello' }], max_tokens: 8 })
  expect(output).toMatchObject({ model: 'tinylm' })
})

test('a file that is no model is refused with a reason', async () => {
  const broken = { ...subject, model: { ...tinylm, files: { weights: new URL(import.meta.url).pathname } } }
  await expect(runAttempt(broken, { prompt: 'Hello' })).rejects.toMatchObject({ code: 'model_unavailable' })
})

test('a text is cancelled between two tokens', async () => {
  const cancel = new AbortController()
  const report = recordReport({ onOutput: () => cancel.abort(new Error('cancelled by the test')) })
  const story = { prompt: 'Once upon a time', max_tokens: 250, seed: 1 }
  await expect(subject.executor.run(attemptOf(subject, story), report, cancel.signal)).rejects.toThrow()
  expect(report.events.filter((event) => event === 'output')).toHaveLength(1)
})

const gpu = { uuid: 'GPU-1', kind: 'gpu', index: 0, milli: 1_000, vramMib: null } as const

test('a GPU on which nothing was seen to compute runs no text, and is not replaced by the CPU', async () => {
  const attempt = { ...attemptOf(subject, { prompt: 'Hello' }), devices: [gpu] }
  const run = subject.executor.run(attempt, recordReport(), new AbortController().signal)
  await expect(run).rejects.toMatchObject({ code: 'engine_unavailable', fault: 'provider' })
})

test('where CUDA crashes, text is computed by Vulkan from the first attempt on', async () => {
  const fixture = enginesForTest('fixture-engine')
  const executor = createLlamaExecutor({ engines: fixture, storage: storageForTest(), processSpace: null })
  const uuid = 'GPU-no-cuda'
  const found = { ...gpu, uuid, model: 'NVIDIA H100', vramMib: 81_559, driver: '580', computeCapability: '9.0' }
  expect(await executor.rehearse!(found, { again: false })).toMatchObject({ computesBy: 'Vulkan' })
  const attempt = { ...attemptOf(subject, { prompt: 'Hello' }), devices: [{ ...gpu, uuid }] }
  const report = recordReport()
  await executor.run(attempt, report, new AbortController().signal)
  expect(report.events.filter((event) => event === 'ready')).toHaveLength(1)
  await executor.close()
})
