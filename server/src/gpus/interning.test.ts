import { expect, test } from 'vitest'
import { agentId, gpuId, gpuRecord, reportedDevice } from './fixture-gpus.ts'
import { GpuRegistry } from './gpu-registry.ts'
import { createInterning } from './interning.ts'

test('equal values become one, and others stay what they are', () => {
  const intern = createInterning()
  const first = intern({ formats: ['gguf'] })
  expect(intern({ formats: ['gguf'] })).toBe(first)
  expect(intern({ formats: ['onnx'] })).toEqual({ formats: ['onnx'] })
  expect([intern(null), intern(''), intern([])]).toEqual([null, '', []])
})

test('no more is known than a megabyte', () => {
  const intern = createInterning()
  const long = ['x'.repeat(1_000)]
  expect(intern(long)).not.toBe(intern([...long]))
  const first = intern(['first'])
  for (let number = 0; number < 1_000; number++) intern([number])
  const anew = intern(['first'])
  expect(anew).not.toBe(first)
  expect(intern(['first'])).toBe(anew)
})

test('what machines report alike is in memory once', () => {
  const registry = new GpuRegistry({ now: () => 0 })
  const fields = ['model', 'specs', 'taskTypes', 'modelFormats', 'several', 'shares', 'cachedModels', 'limits'] as const
  const [one, other] = [1, 2].map((number) => {
    const copyOf = <T>(value: T) => structuredClone(value)
    registry.put(copyOf(gpuRecord({ id: gpuId(number), agentId: agentId(number) })))
    registry.connect(agentId(number), [{ gpuId: gpuId(number), device: copyOf(reportedDevice()) }])
    return registry.get(gpuId(number))!
  })
  for (const field of fields) expect(one![field]).toBe(other![field])
})

test('what a machine says again stays the same object, and what others say alike is one, however many disks there are', () => {
  const registry = new GpuRegistry({ now: () => 0 })
  const say = (number: number, storage_gb: number) => {
    const specs = { ...reportedDevice().specs, storage_gb }
    registry.put(gpuRecord({ id: gpuId(number), agentId: agentId(number), specs }))
    registry.connect(agentId(number), [{ gpuId: gpuId(number), device: structuredClone(reportedDevice()) }])
    return registry.get(gpuId(number))!
  }
  const first = Array.from({ length: 3_000 }, (_, number) => ({ ...say(number, number) }))
  const again = Array.from({ length: 3_000 }, (_, number) => ({ ...say(number, number) }))
  for (const [number, gpu] of again.entries())
    for (const field of ['specs', 'several', 'limits', 'modelFormats'] as const)
      if (gpu[field] !== first[number]![field]) throw new Error(`${field} of ${number} is another`)
  expect(new Set(first.map(({ several }) => several)).size).toBe(1)
  expect(say(1, 5_000).specs).toMatchObject({ storage_gb: 5_000 })
})
