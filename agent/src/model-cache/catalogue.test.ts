import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { Model, ModelFile } from '@orbyte/protocol'
import { expect, test } from 'vitest'
import { z } from 'zod'
import { storageForTest } from '../executors/fixture-models.ts'
import { createExecutors } from '../executors/executors.ts'
import { systemClock } from '../system-clock.ts'

const models = new URL('../../../models/', import.meta.url)
const BundledFile = ModelFile.omit({ url: true }).extend({ path: z.string() })
const catalogue = z
  .array(z.strictObject({ ...Model.shape, files: z.array(BundledFile).min(1) }))
  .parse(JSON.parse(await readFile(new URL('catalogue.json', models), 'utf8')))
const files = catalogue.flatMap((model) => model.files)

test('the catalogue has a model for each thing that can be shown without a download', () => {
  const taskTypes = catalogue.flatMap((model) => model.task_types)
  expect(taskTypes.sort()).toEqual(['embedding', 'image_generation', 'text_generation'])
})

test.each(files)('$path is the file that the catalogue says', async ({ path, sha256, size_bytes }) => {
  const bytes = await readFile(new URL(path, models))
  expect(bytes.length).toBe(size_bytes)
  expect(createHash('sha256').update(bytes).digest('hex')).toBe(sha256)
})

test.each(catalogue)('$name can be run by an executor', ({ format, task_types }) => {
  const readVram = async () => new Map<number, number>()
  const machine = { storage: storageForTest(), processSpace: null, readVram }
  const outside = { ...machine, enginesFolder: null, environment: {}, clock: systemClock, fetch }
  const none = { ...outside, newSeed: () => 0, log: () => {} }
  const executors = createExecutors({ ...none, withFake: false, openai: null })
  const able = executors.filter(({ modelFormats }) => modelFormats?.includes(format))
  expect(able.flatMap(({ taskTypes }) => taskTypes)).toEqual(expect.arrayContaining(task_types))
})
