import { execFile } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { cp, mkdir, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { build } from 'esbuild'
import { bundleSettings, engineEntries, packagesOfWorkspaces } from './bundle.ts'
import { packAgent } from './pack.ts'
import { repository, stampBuilt } from './stamps.mjs'
import { version } from './version.ts'

// Builds dist/: the `orbyte` command with server and agent behind it (npm packages stay in node_modules), and in
// dist/downloads the package that a market offers to providers, in dist/web the web app. Built aside and moved in place when it is whole.

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
  await buildWebApp(join(building, 'web'))
  await replaceDist()
  stampBuilt()
} finally {
  await rm(building, { recursive: true, force: true })
}

async function buildWebApp(folder: string): Promise<void> {
  const web = join(repository, 'web')
  const vite = join(repository, 'node_modules/vite/bin/vite.js')
  await promisify(execFile)(process.execPath, [vite, 'build', '--logLevel', 'error'], { cwd: web })
  await cp(join(web, 'build'), folder, { recursive: true })
}

async function replaceDist(): Promise<void> {
  const old = `${building}-old`
  await mkdir(dist, { recursive: true })
  await rename(dist, old)
  await rename(building, dist)
  await rm(old, { recursive: true, force: true })
}
