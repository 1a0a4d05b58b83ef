import { randomUUID } from 'node:crypto'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { build } from 'esbuild'
import { bundleSettings, packagesOfWorkspaces } from '../scripts/bundle.ts'
import { repository } from '../scripts/stamps.mjs'

/**
 * Programs of this folder, built as the product is: run from source, what the loader adds to every function would be measured
 * too. They lie within node_modules, so that they find the packages.
 */
export type Programs = { path(name: string): string; remove(): Promise<void> }

export async function buildPrograms(names: readonly string[]): Promise<Programs> {
  const folder = join(repository, 'node_modules', `.orbyte-bench-${randomUUID()}`)
  await build({
    ...bundleSettings,
    entryPoints: Object.fromEntries(names.map((name) => [name, join(repository, 'bench', `${name}.ts`)])),
    outdir: folder,
    external: await packagesOfWorkspaces(),
    sourcemap: true,
  })
  return {
    path: (name) => join(folder, `${name}.js`),
    remove: () => rm(folder, { recursive: true, force: true }),
  }
}
