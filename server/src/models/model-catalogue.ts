import { existsSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { api, Model, ModelFile } from '@orbyte/protocol'
import { z } from 'zod'

export type BundledFile = { readonly path: string; readonly sizeBytes: number }
/** The models of this market, in the order of preference, and the files that it serves itself, by SHA-256. */
export type Catalogue = { readonly models: readonly Model[]; readonly files: ReadonlyMap<string, BundledFile> }

const fileFields = ModelFile.omit({ url: true }).shape
/** Below the catalogue's folder, and nowhere above it. */
const BundledPath = z.string().regex(/^(?!.*(?:^|\/)\.\.(?:\/|$))[^/\\][^\\]*$/, { error: 'a path below the folder of the catalogue' })
const ListedFile = z.union([
  z.strictObject({ ...fileFields, path: BundledPath }),
  z.strictObject({ ...fileFields, url: z.url({ protocol: /^https?$/ }) }),
])
const ListedModels = z.array(Model.omit({ files: true }).extend({ files: z.array(ListedFile).min(1) }).strict())

/**
 * Reads `catalogue.json` in `folder`. A file with a `path` lies in the folder and is served by this market; one with a `url`
 * is fetched by agents from there. Throws a sentence that names what is wrong.
 */
export function loadCatalogue(folder: string): Catalogue {
  const file = join(folder, 'catalogue.json')
  if (!existsSync(file)) throw new Error(`MODELS_PATH: there is no catalogue.json in ${folder}`)
  const listed = parseCatalogue(file)
  const files = new Map<string, BundledFile>()
  const models = listed.map((model) => ({
    ...model,
    files: model.files.map((entry) => {
      if ('url' in entry) return entry
      const { path, ...rest } = entry
      const bundled = { path: join(folder, path), sizeBytes: entry.size_bytes }
      assertSize(bundled)
      files.set(entry.sha256, bundled)
      return { ...rest, url: api.models.file.path.replace('{sha256}', entry.sha256) }
    }),
  }))
  return { models, files }
}

function parseCatalogue(file: string): z.output<typeof ListedModels> {
  const listed = ListedModels.safeParse(parseJson(file))
  if (!listed.success) throw new Error(`${file} is not a catalogue of models:\n${z.prettifyError(listed.error)}`)
  const names = listed.data.map(({ name }) => name)
  const twice = names.find((name, index) => names.indexOf(name) !== index)
  if (twice !== undefined) throw new Error(`${file}: two models are called ${twice}`)
  return listed.data
}

function parseJson(file: string): unknown {
  try {
    return JSON.parse(readFileSync(file, 'utf8'))
  } catch (error) {
    throw new Error(`${file} is not valid JSON`, { cause: error })
  }
}

function assertSize({ path, sizeBytes }: BundledFile) {
  const found = statSync(path, { throwIfNoEntry: false })?.size
  if (found === undefined) throw new Error(`the catalogue of models lists ${path}, which is not there`)
  if (found !== sizeBytes) throw new Error(`${path} has ${found} bytes, and the catalogue of models says ${sizeBytes}`)
}
