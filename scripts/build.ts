import { randomUUID } from 'node:crypto'
import { mkdir, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { build } from 'esbuild'
import { bundleSettings, engineEntries, packagesOfWorkspaces } from './bundle.ts'
import { packAgent } from './pack.ts'
import { repository, stampBuilt } from './stamps.mjs'
import { version } from './version.ts'

// Builds dist/: the `orbyte` command with server and agent behind it (npm packages stay in node_modules), and in
// dist/downloads the package that a market offers to providers. Built aside and moved in place when it is whole.

const building = join(repository, 'node_modules', `.orbyte-build-${randomUUID()}`)
const dist = join(repository, 'dist')

try {
  await build({
    ...bundleSettings,
    entryPoints: { orbyte: join(repository, 'cli/src/main.ts'), ...(await engineEntries()) },
    outdir: building,
    sourcemap: true,
    external: await packagesOfWorkspaces(),
  })
  await packAgent(join(building, 'downloads'), version)
  await replaceDist()
  stampBuilt()
} finally {
  await rm(building, { recursive: true, force: true })
}

async function replaceDist(): Promise<void> {
  const old = `${building}-old`
  await mkdir(dist, { recursive: true })
  await rename(dist, old)
  await rename(building, dist)
  await rm(old, { recursive: true, force: true })
}
