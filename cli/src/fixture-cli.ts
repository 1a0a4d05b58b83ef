import { spawn } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { buildSync } from 'esbuild'
import { afterAll, onTestFinished } from 'vitest'

export type Ended = { code: number | null; stdout: string; stderr: string }
export type Running = {
  /** Resolves with the first match in what it has written to `stream` so far, or will. */
  says(pattern: RegExp, stream?: 'stdout' | 'stderr'): Promise<RegExpExecArray>
  signal(name: NodeJS.Signals): void
  readonly ended: Promise<Ended>
}
export type TestCli = {
  /** Its home, config file and current folder. */
  readonly folder: string
  readonly configPath: string
  /** Runs `orbyte` with these arguments until it ends. */
  (args: string[], options?: { stdin?: string; env?: Record<string, string> }): Promise<Ended>
  start(args: string[], options?: { stdin?: string; env?: Record<string, string> }): Running
  /** Runs it with --json and gives what it printed; throws if it failed. */
  json(
    args: string[],
    options?: { stdin?: string },
  ): Promise<Record<string, never> & { items: Record<string, never>[] }>
}

const source = fileURLToPath(new URL('main.ts', import.meta.url))
const fromSource = ['--import', import.meta.resolve('tsx'), source]

/** One file of the command without server and agent: it starts in half the time that its sources take. */
const bundled = (() => {
  const folder = mkdtempSync(join(tmpdir(), 'orbyte-bundle-'))
  afterAll(() => rmSync(folder, { recursive: true, force: true }))
  const outfile = join(folder, 'orbyte.mjs')
  buildSync({
    ...{ entryPoints: [source], outfile, bundle: true, format: 'esm', platform: 'node', target: 'node20.19' },
    external: ['@orbyte/server/*', '@orbyte/agent/*'],
    // Commander is CommonJS and asks for Node's own modules with `require`.
    banner: { js: "import { createRequire } from 'node:module'\nconst require = createRequire(import.meta.url)" },
  })
  return [outfile]
})()

/** The commands that load the server or the agent run from source. */
const programFor = ([command]: string[]) =>
  ['agent', 'serve', 'ledger', 'backup', 'restore'].includes(command!) ? fromSource : bundled

/** The real command, in a home of its own that knows nothing but where the market is. Everything ends with the test, or with `cleanUp`. */
export function createTestCli(url: string, cleanUp: (work: () => void) => void = onTestFinished): TestCli {
  const folder = mkdtempSync(join(tmpdir(), 'orbyte-cli-'))
  cleanUp(() => rmSync(folder, { recursive: true, force: true }))
  const configPath = join(folder, 'config.json')

  const start: TestCli['start'] = (args, { stdin = '', env = {} } = {}) => {
    const child = spawn(process.execPath, [...programFor(args), ...args], {
      cwd: folder,
      env: { PATH: process.env.PATH, HOME: folder, ORBYTE_CONFIG: configPath, ORBYTE_URL: url, TZ: 'UTC', ...env },
    })
    cleanUp(() => void child.kill('SIGKILL'))
    const written = { stdout: '', stderr: '' }
    const listeners = new Set<() => void>()
    const tell = () => listeners.forEach((listen) => listen())
    for (const name of ['stdout', 'stderr'] as const)
      child[name].setEncoding('utf8').on('data', (text: string) => {
        written[name] += text
        tell()
      })
    child.stdin.on('error', () => {})
    child.stdin.end(stdin)
    const ended = new Promise<Ended>((resolve) => child.on('close', (code) => resolve({ code, ...written })))
    return {
      ended,
      signal: (name) => void child.kill(name),
      says: (pattern, stream = 'stderr') =>
        new Promise((resolve, reject) => {
          const look = () => {
            const found = pattern.exec(written[stream])
            if (found) resolve(found)
          }
          listeners.add(look)
          look()
          void ended.then(() =>
            reject(new Error(`it ended and never said ${pattern}:\n${written.stdout}\n${written.stderr}`)),
          )
        }),
    }
  }

  const run = (args: string[], options?: { stdin?: string; env?: Record<string, string> }) => start(args, options).ended
  const json: TestCli['json'] = async (args, options) => {
    const { code, stdout, stderr } = await run([...args, '--json'], options)
    if (code !== 0) throw new Error(`orbyte ${args.join(' ')} ended with ${code}: ${stderr}`)
    return JSON.parse(stdout) as never
  }
  return Object.assign(run, { folder, configPath, start, json })
}
