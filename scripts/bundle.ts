import { readdir, readFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import type { BuildOptions, Plugin } from 'esbuild'
import { repository } from './stamps.mjs'

/** The `orbyte` command is a program: it starts with the line that says so, whether its source does or not. */
const hashbang: Plugin = {
  name: 'hashbang',
  setup(build) {
    build.onLoad({ filter: /[\\/]cli[\\/]src[\\/]main\.ts$/ }, async ({ path }) => {
      const source = await readFile(path, 'utf8')
      return { loader: 'ts', contents: source.startsWith('#!') ? source : `#!/usr/bin/env node\n${source}` }
    })
  },
}

/**
 * All files lie in one flat folder: the agent finds the programs of its engines beside its own code. Splitting keeps what
 * is imported lazily in files of its own, so that `orbyte agent` does not load the server.
 */
export const bundleSettings = {
  bundle: true,
  splitting: true,
  format: 'esm',
  platform: 'node',
  target: 'node20.19',
  entryNames: '[name]',
  chunkNames: 'chunk-[hash]',
  logLevel: 'warning',
  absWorkingDir: repository,
  plugins: [hashbang],
} satisfies BuildOptions

/** The programs that the agent runs as child processes: each file of agent/src/engines that serves an engine. */
export async function engineEntries(): Promise<Record<string, string>> {
  const folder = join(repository, 'agent/src/engines')
  const entries: Record<string, string> = {}
  for (const name of await readdir(folder)) {
    if (!name.endsWith('-engine.ts') || name.startsWith('fixture-')) continue
    const isProgram = /^serveEngine\(/m.test(await readFile(join(folder, name), 'utf8'))
    if (isProgram) entries[basename(name, '.ts')] = join(folder, name)
  }
  return entries
}

/** The npm packages that the workspaces depend on, without the workspaces themselves. */
export async function packagesOfWorkspaces(): Promise<string[]> {
  const names = new Set<string>()
  for (const workspace of ['protocol', 'server', 'agent', 'sdk', 'cli']) {
    const { dependencies = {} } = JSON.parse(await readFile(join(repository, workspace, 'package.json'), 'utf8')) as {
      dependencies?: Record<string, string>
    }
    for (const name of Object.keys(dependencies)) if (!name.startsWith('@orbyte/')) names.add(name)
  }
  return [...names].sort()
}
