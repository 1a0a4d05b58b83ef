import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { copyFile, mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { build, type Metafile, type Plugin } from 'esbuild'
import { bundleSettings, engineEntries } from './bundle.ts'
import { npmCommand } from './npm.mjs'
import { repository } from './stamps.mjs'

/** Native libraries that the agent installs by itself for the machine it is on, and speed-ups that `ws` does without. */
const leftOut = ['node-llama-cpp', 'onnxruntime-node', 'bufferutil', 'utf-8-validate']

const withoutServer: Plugin = {
  name: 'without-server',
  setup(builder) {
    builder.onResolve({ filter: /^@orbyte\/server(\/|$)/ }, ({ path }) => ({ path, namespace: 'no-server' }))
    builder.onLoad({ filter: /.*/, namespace: 'no-server' }, () => ({
      contents: `
        process.stderr.write(
          'This package holds the command line and the agent only. To run a market, get the whole of Orbyte: ' +
            'its README says how.\\n')
        process.exit(2)`,
    }))
  },
}

/**
 * Writes `orbyte-VERSION.tgz`: the command line and the agent as an npm package that depends on nothing, so that
 * `npx http://MARKET/downloads/orbyte-VERSION.tgz` needs nothing but that market. The same sources give the same bytes. The
 * version ends with a hash of the contents: npm keeps packages by their URL, and would go on with an old one otherwise.
 */
export async function packAgent(folder: string, version: string): Promise<string> {
  const contents = join(folder, 'package')
  await mkdir(contents, { recursive: true })
  const { metafile } = await build({
    ...bundleSettings,
    entryPoints: { orbyte: join(repository, 'cli/src/main.ts'), ...(await engineEntries()) },
    outdir: contents,
    external: leftOut,
    plugins: [...bundleSettings.plugins, withoutServer],
    // CommonJS packages ask for Node's own modules with `require`, which a module does not have.
    banner: {
      js: "import { createRequire as createRequireOf } from 'node:module'\nconst require = createRequireOf(import.meta.url)",
    },
    metafile: true,
  })
  const packed = `${version}-b${await hashOfFiles(contents)}`
  await writeFile(join(contents, 'package.json'), `${JSON.stringify(manifest(packed), null, 2)}\n`)
  await writeFile(join(contents, 'README.md'), readme)
  await copyFile(join(repository, 'LICENSE'), join(contents, 'LICENSE'))
  await writeFile(join(contents, 'THIRD-PARTY-LICENSES.txt'), await licencesOf(metafile))
  await npm(['pack', contents, '--pack-destination', folder, '--ignore-scripts', '--loglevel=error'])
  await rm(contents, { recursive: true })
  return join(folder, `orbyte-${packed}.tgz`)
}

async function hashOfFiles(folder: string): Promise<string> {
  const hash = createHash('sha256')
  for (const name of (await readdir(folder)).sort()) hash.update(name).update(await readFile(join(folder, name)))
  return hash.digest('hex').slice(0, 8)
}

function manifest(version: string): Record<string, unknown> {
  return {
    name: 'orbyte',
    version,
    description: 'The command line and the agent of an Orbyte market: offer your GPU, or rent one.',
    license: 'MIT',
    type: 'module',
    bin: { orbyte: 'orbyte.js' },
    engines: { node: '>=20.19.0' },
  }
}

const readme = `# orbyte

The command line and the agent of an Orbyte market.

    orbyte agent start --token TOKEN   offer this machine's GPU
    orbyte --help                      everything else

The agent fetches the engines that this machine needs (text, images) into its data folder when it first starts.
`

/** The licences of the packages whose code is in the bundle: they ask to go wherever the code goes. */
async function licencesOf(metafile: Metafile): Promise<string> {
  const folders = new Set<string>()
  for (const path of Object.keys(metafile.inputs)) {
    const folder = /^(.*node_modules\/(?:@[^/]+\/)?[^/]+)\//.exec(path)?.[1]
    if (folder !== undefined) folders.add(folder)
  }
  const texts = [...folders].sort().map(async (folder) => {
    const name = folder.slice(folder.lastIndexOf('node_modules/') + 'node_modules/'.length)
    const file = (await readdir(join(repository, folder))).find((entry) => /^licen[cs]e/i.test(entry))
    if (file === undefined) throw new Error(`${name} is in the bundle and has no licence file`)
    return `${name}\n\n${(await readFile(join(repository, folder, file), 'utf8')).trim()}\n`
  })
  return (await Promise.all(texts)).join(`\n${'-'.repeat(80)}\n\n`)
}

async function npm(npmArguments: string[]): Promise<void> {
  const command = npmCommand(npmArguments)
  await promisify(execFile)(command.file, command.arguments, command.options)
}
