import { type ChildProcess, spawn } from 'node:child_process'
import { randomInt } from 'node:crypto'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { build } from 'esbuild'
import { type Client, createClient, logIn } from '@orbyte/sdk'
import { bundleSettings, engineEntries, packagesOfWorkspaces } from '../scripts/bundle.ts'
import { repository } from '../scripts/stamps.mjs'

/** `orbyte …` as a process of its own. */
export type Process = {
  readonly child: ChildProcess
  /** What it has said so far, both streams. */
  said(): string
  /** Resolves with the line that matches; rejects when the process ends without it. */
  line(pattern: RegExp): Promise<RegExpExecArray>
  kill(signal: NodeJS.Signals): Promise<void>
}

const running = new Set<ChildProcess>()
const program = await buildProgram()

export type ProcessOptions = { cwd: string; env?: Record<string, string> }

export function orbyte(words: readonly string[], { cwd, env }: ProcessOptions): Process {
  const child = spawn(process.execPath, [program, ...words], {
    cwd,
    env: { ...process.env, LOG_LEVEL: 'warn', NO_COLOR: '1', ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  running.add(child)
  const lines: string[] = []
  const listeners = new Set<() => void>()
  const tell = () => {
    for (const listen of listeners) listen()
  }
  for (const stream of [child.stdout!, child.stderr!])
    createInterface({ input: stream }).on('line', (line) => {
      lines.push(line)
      tell()
    })
  let isOver = false
  // It has ended, and everything that it said has been read.
  child.on('close', () => {
    isOver = true
    running.delete(child)
    tell()
  })
  return {
    child,
    said: () => lines.join('\n'),
    line: (pattern) =>
      new Promise((resolve, reject) => {
        const look = () => {
          const found = lines.map((line) => pattern.exec(line)).find((match) => match !== null)
          if (!found && !isOver) return
          listeners.delete(look)
          if (found) resolve(found)
          else reject(new Error(`it ended without saying ${pattern}:\n${lines.join('\n')}`))
        }
        listeners.add(look)
        look()
      }),
    async kill(signal) {
      if (isOver) return
      const closed = once(child, 'close')
      child.kill(signal)
      await closed
    },
  }
}

/** One that is made from the sources of now, and starts in a quarter of the time that they would take. */
async function buildProgram(): Promise<string> {
  // Within the checkout, so that it finds the npm packages.
  const outdir = mkdtempSync(join(repository, 'node_modules/.orbyte-e2e-'))
  process.once('exit', () => {
    for (const child of running) child.kill('SIGKILL')
    rmSync(outdir, { recursive: true, force: true })
  })
  // Vitest ends the processes of its tests with SIGTERM.
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(1))
  await build({
    ...bundleSettings,
    entryPoints: { orbyte: join(repository, 'cli/src/main.ts'), ...(await engineEntries()) },
    outdir,
    external: await packagesOfWorkspaces(),
  })
  return join(outdir, 'orbyte.js')
}

/** For `afterEach`: no test leaves a process behind. */
export async function killAll() {
  for (const child of [...running]) {
    const closed = once(child, 'close')
    child.kill('SIGKILL')
    await closed
  }
}

/** A market process that is up. */
export async function startMarket(options: {
  folder: string
  port: number
  env?: Record<string, string>
}): Promise<Process> {
  const { folder, port, env = {} } = options
  const market = orbyte(['serve', '--port', String(port), '--database', `${folder}/orbyte.db`], {
    cwd: folder,
    env: { ALLOW_EMULATED_GPUS: 'true', RATE_LIMIT_PER_MINUTE: '0', ...env },
  })
  await market.line(/a market at/)
  return market
}

/**
 * A port for a market that is killed and comes back to it. Not one of those that systems hand out by themselves (from 32768 on):
 * such a one would be another's connection while the market is away.
 */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = randomInt(10_000, 32_000)
    const server = createServer()
    const isFree = new Promise<boolean>((resolve) => {
      server.once('listening', () => resolve(true)).once('error', () => resolve(false))
    })
    server.listen(port, '127.0.0.1')
    if (!(await isFree)) continue
    server.close()
    await once(server, 'close')
    return port
  }
}

export async function newUser(url: string, name: string): Promise<Client> {
  const client = createClient({ url })
  const account = { email: `${name}@example.org`, password: 'a password for tests' }
  await client.auth.register(account)
  await logIn(client, account)
  return client
}
