import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { dirname, join, relative, resolve, sep } from 'node:path'
import { fileURLToPath } from 'node:url'

/*
 * Stamps say what an installed or built folder was made from: a hash of its inputs, kept inside the folder. Contents are
 * compared and not times, because a clone or a checkout sets times of its own. Node's built-ins only: this runs before
 * anything is installed.
 */

export const repository = resolve(dirname(fileURLToPath(import.meta.url)), '..')

const installed = { stamp: 'node_modules/.orbyte-lock', inputs: ['package-lock.json', '.npmrc'] }
const built = {
  stamp: 'dist/.orbyte-sources',
  inputs: [
    'protocol',
    'server',
    'agent',
    'sdk',
    'cli',
    'web',
    'scripts/build.ts',
    'scripts/bundle.ts',
    'scripts/pack.ts',
    'package.json',
    'package-lock.json',
  ],
}

export const isInstalled = (root = repository) => isFresh(root, installed)
export const isBuilt = (root = repository) => isFresh(root, built)
export const stampInstalled = (root = repository) => writeStamp(root, installed)
export const stampBuilt = (root = repository) => writeStamp(root, built)

function isFresh(root, { stamp, inputs }) {
  const path = join(root, stamp)
  return existsSync(path) && readFileSync(path, 'utf8') === hashOf(root, inputs)
}

function writeStamp(root, { stamp, inputs }) {
  mkdirSync(dirname(join(root, stamp)), { recursive: true })
  writeFileSync(join(root, stamp), hashOf(root, inputs))
}

function hashOf(root, inputs) {
  const hash = createHash('sha256')
  for (const path of inputs.flatMap((input) => filesBelow(join(root, input)))) {
    hash.update(relative(root, path).split(sep).join('/')).update('\0').update(readFileSync(path)).update('\0')
  }
  return hash.digest('hex')
}

/** Every file that can end up in a bundle. A test cannot, and a change of one is no reason to build again. */
function filesBelow(path) {
  if (!existsSync(path)) return []
  if (!statSync(path).isDirectory()) return [path]
  return readdirSync(path)
    .filter((name) => !['node_modules', 'dist', 'build', '.svelte-kit'].includes(name) && !name.endsWith('.test.ts'))
    .sort()
    .flatMap((name) => filesBelow(join(path, name)))
}
