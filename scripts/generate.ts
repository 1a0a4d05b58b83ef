import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { format, resolveConfig } from 'prettier'
import { endpointTableFile } from './generators/endpoint-table.ts'
import { environmentExample, environmentReference } from './generators/environment-reference.ts'
import { errorReference } from './generators/error-reference.ts'
import { openApiFile } from './generators/openapi-file.ts'
import { repository } from './stamps.mjs'

export type GeneratedFile = {
  /** From the repository's root, with forward slashes. */
  readonly path: string
  readonly content: string
}

/** Each makes one file out of the sources, and nothing else. A new reference is one file in generators/ and one line here. */
const generators: readonly (() => GeneratedFile)[] = [
  openApiFile,
  endpointTableFile,
  errorReference,
  environmentReference,
  environmentExample,
]

// Writes what is derived from the sources; with --check it writes nothing and fails if something is not up to date.
const check = process.argv.includes('--check')
const outdated: string[] = []
for (const generate of generators) {
  const { path, content } = await formatted(generate())
  const target = join(repository, path)
  if ((await readFile(target, 'utf8').catch(() => null)) === content) continue
  outdated.push(path)
  if (check) continue
  await mkdir(dirname(target), { recursive: true })
  await writeFile(target, content)
}

if (!check)
  console.log(outdated.length === 0 ? 'All generated files were up to date.' : `Wrote ${outdated.join(', ')}.`)
else if (outdated.length > 0) {
  console.error(`Not what the sources say: ${outdated.join(', ')}. Run \`npm run generate\` and commit the result.`)
  process.exit(1)
}

/** Generated files pass `npm run format` unchanged. */
async function formatted({ path, content }: GeneratedFile): Promise<GeneratedFile> {
  if (!/\.(md|json|ts)$/.test(path)) return { path, content }
  const options = await resolveConfig(join(repository, path))
  return { path, content: await format(content, { ...options, filepath: path }) }
}
