import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { Model } from '@orbyte/protocol'
import { loadCatalogue } from './model-catalogue.ts'

let folder: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'orbyte-models-'))
  mkdirSync(join(folder, 'small'))
  writeFileSync(join(folder, 'small', 'weights.gguf'), 'weights')
})
afterEach(() => rmSync(folder, { recursive: true }))

const sha256 = 'ab'.repeat(32)
const bundled = { name: 'weights', path: 'small/weights.gguf', sha256, size_bytes: 7 }
const entry = {
  name: 'small',
  title: 'Small',
  description: 'A model.',
  task_types: ['text_generation'],
  format: 'gguf',
  files: [bundled],
  parameters: 1,
  context_tokens: null,
  prompt_style: null,
  vram_gb: 0.1,
  licence: 'MIT',
  origin: 'Here.',
  demo: true,
}
const load = (catalogue: unknown) => {
  writeFileSync(join(folder, 'catalogue.json'), typeof catalogue === 'string' ? catalogue : JSON.stringify(catalogue))
  return loadCatalogue(folder)
}

test('a bundled file is served by the market; a file with a URL stays where it is', () => {
  const elsewhere = { name: 'more', url: 'https://example.com/more.gguf', sha256: 'cd'.repeat(32), size_bytes: 9 }
  const { models, files } = load([{ ...entry, files: [bundled, elsewhere] }])
  expect(models[0]!.files).toEqual([
    { name: 'weights', url: `/api/models/files/${sha256}`, sha256, size_bytes: 7 },
    elsewhere,
  ])
  expect([...files]).toEqual([[sha256, { path: join(folder, 'small/weights.gguf'), sizeBytes: 7 }]])
})

test('the catalogue of this repository loads, and does text, images and embeddings', () => {
  const { models } = loadCatalogue(join(import.meta.dirname, '../../../models'))
  expect(models.map((model) => Model.parse(model))).toEqual(models)
  expect(new Set(models.flatMap((model) => model.task_types))).toEqual(
    new Set(['text_generation', 'image_generation', 'embedding']),
  )
})

test.each<[string, unknown, RegExp]>([
  ['is not JSON', '[', /catalogue\.json is not valid JSON/],
  ['has an unknown field', [{ ...entry, price: 1 }], /not a catalogue[\s\S]*"price"/],
  ['has a model without files', [{ ...entry, files: [] }], /not a catalogue[\s\S]*files/],
  ['has two models of one name', [entry, entry], /two models are called small/],
  ['names a file that is not there', [{ ...entry, files: [{ ...bundled, path: 'gone' }] }], /gone, which is not there/],
  ['names a file of another size', [{ ...entry, files: [{ ...bundled, size_bytes: 8 }] }], /has 7 bytes, .* says 8/],
  ['leads out of its folder', [{ ...entry, files: [{ ...bundled, path: 'small/../../etc/passwd' }] }], /not a catalogue/],
  ['has an absolute path', [{ ...entry, files: [{ ...bundled, path: '/etc/passwd' }] }], /not a catalogue/],
])('a catalogue is refused, with a sentence, if it %s', (_what, catalogue, sentence) => {
  expect(() => load(catalogue)).toThrow(sentence)
})

test('a folder without a catalogue is refused by the name of its setting', () => {
  expect(() => loadCatalogue(folder)).toThrow(/MODELS_PATH: there is no catalogue\.json/)
})
