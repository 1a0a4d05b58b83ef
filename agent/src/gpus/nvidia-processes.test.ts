import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import type { RunCommand } from './gpu-detector.ts'
import { createNvidiaVramReader, parseComputeApps } from './nvidia-processes.ts'

const recorded = readFileSync(new URL('recorded/nvidia-compute-apps.csv', import.meta.url), 'utf8')

test('the VRAM of a process is summed over GPUs, and one that the driver says nothing of is left out', () => {
  expect(parseComputeApps(recorded)).toEqual(
    new Map([
      [2_374_511, 32_762],
      [2_380_042, 514],
    ]),
  )
  // Where the units are not left out, and where there is nothing to tell.
  expect(parseComputeApps('77, 1024 MiB\n')).toEqual(new Map([[77, 1_024]]))
  expect(parseComputeApps('No running processes found\n')).toEqual(new Map())
})

test('who asks at the same time is answered by one call of the tool, and nobody is seen where it does not work', async () => {
  let calls = 0
  const answering =
    (exitCode: number): RunCommand =>
    async (_command, args) => {
      calls++
      expect(args[0]).toBe('--query-compute-apps=pid,used_gpu_memory')
      return { exitCode, stdout: recorded, stderr: '' }
    }
  const read = createNvidiaVramReader({ run: answering(0) })
  const [first, second] = await Promise.all([read(), read()])
  expect([calls, first.get(2_380_042), second]).toEqual([1, 514, first])
  await read()
  expect(calls).toBe(2)
  expect((await createNvidiaVramReader({ run: answering(9) })()).size).toBe(0)
  expect((await createNvidiaVramReader({ run: async () => null })()).size).toBe(0)
})
