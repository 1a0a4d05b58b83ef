import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import type { RunCommand } from './gpu-detector.ts'
import { createNvidiaVramReader, parseProcesses } from './nvidia-processes.ts'

const recorded = (name: string) =>
  readFileSync(new URL(`recorded/nvidia-processes-${name}.txt`, import.meta.url), 'utf8')

test('the VRAM of a process is summed over GPUs, and one that the driver says nothing of is left out', () => {
  expect(parseProcesses(recorded('two-gpus'))).toEqual(new Map([[2_374_511, 32_762]]))
  expect(parseProcesses('No devices were found\n')).toEqual(new Map())
})

test('processes that compute by Vulkan, and clients of MPS, are seen with what they use', () => {
  expect(parseProcesses(recorded('vulkan'))).toEqual(new Map([[924, 3_081]]))
  const mps = new Map([
    [4_423, 66],
    [4_462, 1_194],
  ])
  expect(parseProcesses(recorded('mps'))).toEqual(mps)
})

test('who asks at the same time is answered by one call of the tool, and nothing is said where it does not work', async () => {
  let calls = 0
  const answering =
    (exitCode: number): RunCommand =>
    async (_command, args) => {
      calls++
      expect(args).toEqual(['-q', '-d', 'PIDS'])
      return { exitCode, stdout: recorded('vulkan'), stderr: '' }
    }
  const read = createNvidiaVramReader({ run: answering(0) })
  const [first, second] = await Promise.all([read(), read()])
  expect([calls, first?.get(924), second]).toEqual([1, 3_081, first])
  await read()
  expect(calls).toBe(2)
  expect(await createNvidiaVramReader({ run: answering(9) })()).toBeNull()
  expect(await createNvidiaVramReader({ run: async () => null })()).toBeNull()
})
