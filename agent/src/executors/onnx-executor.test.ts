import { createHash } from 'node:crypto'
import { decode } from 'fast-png'
import { expect, test } from 'vitest'
import { attemptOf, executorSuite, recordReport, runAttempt, type SuiteSubject } from './executor-suite.ts'
import { enginesForTest, tinyimg } from './fixture-models.ts'
import { createOnnxExecutor } from './onnx-executor.ts'

const engines = enginesForTest('onnx-engine')
const subject: SuiteSubject = {
  name: 'onnx',
  executor: createOnnxExecutor({ engines, newSeed: () => 99 }),
  taskType: 'image_generation',
  input: { prompt: 'a panda', seed: 7, steps: 4 },
  longInput: { prompt: 'a panda', seed: 7, steps: 200, count: 16 },
  model: tinyimg,
  isDeterministic: true,
  crash: () => engines.pids().forEach((pid) => process.kill(pid, 'SIGKILL')),
}
executorSuite(subject)

test('images come as PNG files of the size that the output names, each with its seed', async () => {
  const { output, report } = await runAttempt(subject, { prompt: 'a red car', seed: 4, steps: 4, count: 2 })
  expect(output).toEqual({
    images: [
      { file: 'image-1.png', width: 128, height: 128, seed: 4 },
      { file: 'image-2.png', width: 128, height: 128, seed: 5 },
    ],
    model: 'tinyimg',
    ignored_words: [],
  })
  const [first, second] = report.files.map((file) => decode(file.bytes))
  expect(first).toMatchObject({ width: 128, height: 128, channels: 3 })
  expect(first!.data).not.toEqual(second!.data)
})

test('the colours of the prompt are the colours of the picture', async () => {
  const { report } = await runAttempt(subject, { prompt: 'a yellow circle on a blue background', seed: 1 })
  const { data, width } = decode(report.files[0]!.bytes)
  const pixelAt = (x: number, y: number) => [...data.slice(3 * (y * width + x), 3 * (y * width + x) + 3)]
  const [red, green, blue] = pixelAt(64, 64) as [number, number, number]
  expect(Math.min(red, green)).toBeGreaterThan(blue + 60)
  const [cornerRed, , cornerBlue] = pixelAt(4, 4) as [number, number, number]
  expect(cornerBlue).toBeGreaterThan(cornerRed + 60)
})

test('a picture that is not enlarged has the size of the model', async () => {
  const { output } = await runAttempt(subject, { prompt: 'a cat', seed: 1, steps: 2, upscale: false })
  expect(output['images']).toMatchObject([{ width: 32, height: 32 }])
})

test('without a seed it takes a new one and says which', async () => {
  const { output } = await runAttempt(subject, { prompt: 'a cat', steps: 2 })
  expect(output['images']).toMatchObject([{ seed: 99 }])
})

test('words without effect are reported, and so is a prompt without any object', async () => {
  const { output, report } = await runAttempt(subject, { prompt: 'Einstein on a blue background', seed: 1, steps: 2 })
  expect(output['ignored_words']).toEqual(['einstein'])
  expect(report.logLines[0]).toContain('einstein')
  expect(report.logLines[1]).toContain('panda')
})

test('work stops between two images', async () => {
  const cancel = new AbortController()
  const report = recordReport({ onFile: () => cancel.abort(new Error('cancelled by the test')) })
  const many = { prompt: 'a panda', seed: 7, steps: 100, count: 16 }
  await expect(subject.executor.run(attemptOf(subject, many), report, cancel.signal)).rejects.toThrow()
  expect(report.files).toHaveLength(1)
})

test('the same seed gives the same bytes in another process', async () => {
  const hashOf = async () => {
    const { report } = await runAttempt(subject, { prompt: 'a panda', seed: 7, steps: 4 })
    return createHash('sha256').update(report.files[0]!.bytes).digest('hex')
  }
  const first = await hashOf()
  await engines.close()
  expect(await hashOf()).toBe(first)
})
