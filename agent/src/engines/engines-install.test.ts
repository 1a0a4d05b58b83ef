import { chmod, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { delimiter, dirname, join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { detectMachine, installEngines, type InstallEnginesOptions } from './engines-install.ts'

/**
 * A program in the place of npm: it notes that it was called and what it sees, and puts onnxruntime's folders where npm
 * would. The tests must not need a registry.
 */
const npmProgram = `#!/usr/bin/env node
const fs = require('node:fs')
fs.appendFileSync('calls.txt', process.argv.slice(2).join(' ') + '\\n')
fs.writeFileSync('seen.json', JSON.stringify(process.env))
for (const platform of ['darwin/arm64', 'linux/arm64', 'linux/x64', 'win32/x64']) {
  fs.mkdirSync('node_modules/onnxruntime-node/bin/napi-v6/' + platform, { recursive: true })
}
console.error('npm http fetch GET 200 https://registry.npmjs.org/node-llama-cpp 12ms (cache miss)')
console.error('npm http fetch GET 200 https://registry.npmjs.org/node-llama-cpp/-/node-llama-cpp-3.21.1.tgz 812ms (cache miss)')
if (fs.existsSync('fail')) { console.error('npm error network timeout'); process.exit(1) }
`

let root = ''
let enginesFolder = ''
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'orbyte-engines-'))
  enginesFolder = join(root, 'engines')
  await mkdir(join(root, 'bin'))
  await writeFile(join(root, 'bin', 'npm'), npmProgram)
  await chmod(join(root, 'bin', 'npm'), 0o755)
})
afterEach(() => rm(root, { recursive: true }))

test('npm installs what this machine needs, with settings of its own, and says how it goes', async () => {
  const lines: string[] = []
  await installEngines(install({ onProgress: (line) => lines.push(line) }))
  expect(JSON.parse(await read('package.json'))).toMatchObject({
    dependencies: { 'node-llama-cpp': '3.21.1', '@node-llama-cpp/linux-x64': '3.21.1', 'onnxruntime-node': '1.30.0' },
  })
  expect((await read('.npmrc')).split('\n')).toEqual(
    expect.arrayContaining(['omit=optional', 'ignore-scripts=true', 'onnxruntime-node-install=skip']),
  )
  expect(lines).toContain('fetched node-llama-cpp-3.21.1')
  expect(lines).not.toContain('fetched node-llama-cpp')
})

test('the binaries of other machines are removed', async () => {
  await installEngines(install())
  const binaries = join(enginesFolder, 'node_modules', 'onnxruntime-node', 'bin', 'napi-v6')
  expect(await readdir(binaries, { recursive: true })).toEqual(expect.arrayContaining(['linux', join('linux', 'x64')]))
  expect(await readdir(join(binaries, 'linux'))).toEqual(['x64'])
  expect(await readdir(join(binaries, 'win32'))).toEqual([])
})

test('a second time, nothing is done', async () => {
  await installEngines(install())
  await installEngines(install())
  expect(await calls()).toHaveLength(1)
})

test('a machine that has got a GPU since is installed again', async () => {
  await installEngines(install())
  await installEngines(install({ machine: { platform: 'linux', arch: 'x64', accelerator: 'cuda' } }))
  expect(await calls()).toHaveLength(2)
  expect(await read('package.json')).toContain('linux-x64-cuda-ext')
})

test('an install that failed says why and is done again', async () => {
  await mkdir(enginesFolder)
  await writeFile(join(enginesFolder, 'fail'), '')
  await expect(installEngines(install())).rejects.toThrow('npm error network timeout')
  await rm(join(enginesFolder, 'fail'))
  await installEngines(install())
  expect(await calls()).toHaveLength(2)
})

test('npm sees the way to its registry and no secret', async () => {
  const settings = { npm_config_registry: 'http://mirror', HTTPS_PROXY: 'http://proxy', ORBYTE_TOKEN: 'secret' }
  await installEngines(install({ environment: { ...environment(), ...settings } }))
  const seen = JSON.parse(await read('seen.json')) as Record<string, string>
  expect(seen).toMatchObject({ npm_config_registry: 'http://mirror', HTTPS_PROXY: 'http://proxy' })
  expect(Object.values(seen)).not.toContain('secret')
})

test('a machine without npm is told so', async () => {
  const run = installEngines(install({ environment: { PATH: join(root, 'nothing') } }))
  await expect(run).rejects.toThrow('npm could not be started')
})

test('a machine that no engine is made for is told so', async () => {
  const run = installEngines(install({ machine: { platform: 'sunos', arch: 'x64', accelerator: 'none' } }))
  await expect(run).rejects.toThrow('There is no engine for sunos on x64')
})

test('a machine where nvidia-smi lists a GPU has CUDA', async () => {
  const linux = { platform: 'linux', arch: 'x64' }
  expect(await detectMachine(linux, { PATH: join(root, 'nothing') })).not.toMatchObject({ accelerator: 'cuda' })
  await writeFile(join(root, 'bin', 'nvidia-smi'), '#!/bin/sh\n[ "$1" = -L ]\n')
  await chmod(join(root, 'bin', 'nvidia-smi'), 0o755)
  expect(await detectMachine(linux, environment())).toEqual({ ...linux, accelerator: 'cuda' })
})

function install(overrides: Partial<InstallEnginesOptions> = {}): InstallEnginesOptions {
  return {
    enginesFolder,
    machine: { platform: 'linux', arch: 'x64', accelerator: 'none' },
    environment: environment(),
    signal: new AbortController().signal,
    onProgress: () => {},
    ...overrides,
  }
}

function environment() {
  return { PATH: [join(root, 'bin'), dirname(process.execPath), '/usr/bin', '/bin'].join(delimiter) }
}

async function read(name: string): Promise<string> {
  return await readFile(join(enginesFolder, name), 'utf8')
}

async function calls(): Promise<string[]> {
  return (await read('calls.txt')).trim().split('\n')
}
