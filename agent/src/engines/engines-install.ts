import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { type Environment, installEnvironment } from './engine-environment.ts'
import { detectAccelerator, enginePackages, type Machine } from './engine-packages.ts'

export type InstallEnginesOptions = {
  /** Becomes a folder of npm's, with a package.json of its own. */
  readonly enginesFolder: string
  readonly machine: Machine
  /** The agent's own environment: npm sees of it what it needs to reach its registry. */
  readonly environment: Environment
  readonly signal: AbortSignal
  /** One line of what goes on, for a person. */
  onProgress(line: string): void
}

/** Written last, so that an install that was broken off is done again. */
const markerName = 'installed.json'

/** Installs the engines that this machine needs, unless they are there already. Rejects with what npm said. */
export async function installEngines(options: InstallEnginesOptions): Promise<void> {
  const { enginesFolder, machine, onProgress } = options
  const packages = enginePackages(machine)
  if (Object.keys(packages).length === 0) {
    throw new Error(
      `There is no engine for ${machine.platform} on ${machine.arch}. An OpenAI-compatible server still works.`,
    )
  }
  const marker = join(enginesFolder, markerName)
  const wanted = JSON.stringify(packages)
  if ((await readFile(marker, 'utf8').catch(() => '')) === wanted) return

  await mkdir(enginesFolder, { recursive: true })
  await rm(marker, { force: true })
  onProgress(`Installing engines for this machine: ${Object.keys(packages).join(', ')}`)
  await writeManifest(enginesFolder, packages)
  await runNpm(options)
  await pruneOnnxBinaries(enginesFolder, machine)
  await writeFile(marker, wanted)
  onProgress('The engines are installed.')
}

async function writeManifest(enginesFolder: string, packages: Record<string, string>): Promise<void> {
  const manifest = {
    name: 'orbyte-engines',
    private: true,
    description: 'The engines that this machine needs. Written by the Orbyte agent.',
    dependencies: packages,
  }
  // The optional packages are the binaries for all other machines, and the scripts download or compile what is here already.
  const settings = [
    'omit=optional',
    'ignore-scripts=true',
    'onnxruntime-node-install=skip',
    'package-lock=false',
    'fund=false',
    'audit=false',
  ]
  await writeFile(join(enginesFolder, 'package.json'), `${JSON.stringify(manifest, null, 2)}\n`)
  await writeFile(join(enginesFolder, '.npmrc'), `${settings.join('\n')}\n`)
}

const npmLinesKept = 20

async function runNpm({ enginesFolder, environment, signal, onProgress }: InstallEnginesOptions): Promise<void> {
  const isWindows = environment['SystemRoot'] !== undefined
  const npm = spawn(isWindows ? 'npm.cmd' : 'npm', ['install', '--no-progress', '--loglevel=http'], {
    cwd: enginesFolder,
    env: installEnvironment(environment),
    stdio: ['ignore', 'pipe', 'pipe'],
    // On Windows npm is a batch file, which only a shell can start.
    shell: isWindows,
    signal,
  })
  const lastLines: string[] = []
  for (const stream of [npm.stdout, npm.stderr]) {
    createInterface({ input: stream }).on('line', (line) => {
      const progress = progressOf(line)
      if (progress !== null) onProgress(progress)
      lastLines.push(line)
      if (lastLines.length > npmLinesKept) lastLines.shift()
    })
  }
  const code = await new Promise<number | null>((resolve, reject) => {
    npm.on('error', (error) => reject(new Error(`npm could not be started: ${error.message}`)))
    npm.on('close', resolve)
  })
  if (code === 0) return
  throw new Error(`npm could not install the engines (exit code ${code}):\n${lastLines.join('\n')}`)
}

/** "npm http fetch GET 200 https://…/onnxruntime-node-1.30.0.tgz 5124ms" → the package; other lines say nothing new. */
function progressOf(line: string): string | null {
  const fetched = /fetch GET 200 \S*\/([\w.-]+)\.tgz (\d+ms)?/.exec(line)
  return fetched === null ? null : `fetched ${fetched[1]}`
}

/** onnxruntime-node brings the binaries of every platform, 290 MB; one of them is needed. */
async function pruneOnnxBinaries(enginesFolder: string, { platform, arch }: Machine): Promise<void> {
  const root = join(enginesFolder, 'node_modules', 'onnxruntime-node', 'bin')
  for (const api of await listFolder(root)) {
    for (const onePlatform of await listFolder(join(root, api))) {
      for (const oneArch of await listFolder(join(root, api, onePlatform))) {
        if (onePlatform === platform && oneArch === arch) continue
        await rm(join(root, api, onePlatform, oneArch), { recursive: true })
      }
    }
  }
}

async function listFolder(path: string): Promise<string[]> {
  return existsSync(path) ? await readdir(path) : []
}

/** What this machine is, with the accelerator that its engines can use. */
export async function detectMachine(
  { platform, arch }: Omit<Machine, 'accelerator'>,
  environment: Environment,
): Promise<Machine> {
  const runs = async (program: string, args: readonly string[]) =>
    await new Promise<boolean>((resolve) => {
      const child = spawn(program, args, { stdio: 'ignore', env: installEnvironment(environment) })
      child.on('error', () => resolve(false))
      child.on('close', (code) => resolve(code === 0))
    })
  return { platform, arch, accelerator: await detectAccelerator(platform, { runs, exists: existsSync }) }
}
