import { existsSync } from 'node:fs'
import { dirname, join } from 'node:path'

/**
 * How to start npm: npm's own program run by this Node where it is found, because `npm.cmd` cannot be spawned on Windows
 * without a shell; else whatever the PATH calls npm.
 *
 * @param {string[]} npmArguments
 * @returns {{ file: string, arguments: string[], options: { shell: boolean } }}
 */
export function npmCommand(npmArguments) {
  const node = dirname(process.execPath)
  const program = [
    process.env.npm_execpath,
    join(node, 'node_modules/npm/bin/npm-cli.js'),
    join(node, '../lib/node_modules/npm/bin/npm-cli.js'),
  ].find((path) => path?.endsWith('npm-cli.js') && existsSync(path))
  if (program) return { file: process.execPath, arguments: [program, ...npmArguments], options: { shell: false } }
  return { file: 'npm', arguments: npmArguments, options: { shell: process.platform === 'win32' } }
}
