import { TaskType } from '@orbyte/protocol'
import { expect, test } from 'vitest'
import { systemClock } from '../system-clock.ts'
import { storageForTest } from './fixture-models.ts'
import { createExecutors, type ExecutorsOptions } from './executors.ts'

const options: ExecutorsOptions = {
  withFake: false,
  openai: null,
  enginesFolder: null,
  environment: {},
  clock: systemClock,
  readVram: async () => new Map(),
  storage: storageForTest(),
  processSpace: null,
  fetch,
  newSeed: () => 1,
  log: () => {},
}

test('an agent can write, draw and embed, and pretends only when it is told to', () => {
  expect(namesOf(options)).toEqual(['llama', 'onnx', 'embedding'])
  expect(namesOf({ ...options, withFake: true })).toContain('fake')
})

test('the owner’s own server comes first', () => {
  expect(namesOf({ ...options, openai: { baseUrl: 'http://127.0.0.1:8001/v1', apiKey: null } })[0]).toBe('openai')
})

test('no two executors have one name, and each has a task type', () => {
  const all = createExecutors({ ...options, withFake: true, openai: { baseUrl: 'http://127.0.0.1/v1', apiKey: null } })
  expect(new Set(all.map(({ name }) => name)).size).toBe(all.length)
  for (const { taskTypes } of all) expect(TaskType.options).toEqual(expect.arrayContaining([...taskTypes]))
})

function namesOf(chosen: ExecutorsOptions): string[] {
  return createExecutors(chosen).map(({ name }) => name)
}
