import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createServer } from 'node:net'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { type Client, createClient, logIn } from '@orbyte/sdk'

/** `orbyte …` as a process of its own, from source. */
export type Process = {
  readonly child: ChildProcess
  /** What it has said so far, both streams. */
  said(): string
  /** Resolves with the line that matches; rejects when the process ends without it. */
  line(pattern: RegExp): Promise<RegExpExecArray>
  kill(signal: NodeJS.Signals): Promise<void>
}

const repository = fileURLToPath(new URL('..', import.meta.url))
const running = new Set<ChildProcess>()

export type ProcessOptions = {
  cwd: string
  env?: Record<string, string>
  /** What Node is to run, where that is not the source. */
  program?: readonly string[]
}

export function orbyte(words: readonly string[], options: ProcessOptions): Process {
  const { program = fromSource() } = options
  const child = spawn(process.execPath, [...program, ...words], {
    cwd: options.cwd,
    env: { ...process.env, LOG_LEVEL: 'warn', NO_COLOR: '1', ...options.env },
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
  child.on('exit', () => {
    running.delete(child)
    tell()
  })
  const ended = () => child.exitCode !== null || child.signalCode !== null
  return {
    child,
    said: () => lines.join('\n'),
    line: (pattern) =>
      new Promise((resolve, reject) => {
        const look = () => {
          const found = lines.map((line) => pattern.exec(line)).find((match) => match !== null)
          if (!found && !ended()) return
          listeners.delete(look)
          if (found) resolve(found)
          else reject(new Error(`it ended without saying ${pattern}:\n${lines.join('\n')}`))
        }
        listeners.add(look)
        look()
      }),
    async kill(signal) {
      if (ended()) return
      const exit = once(child, 'exit')
      child.kill(signal)
      await exit
    },
  }
}

const fromSource = () => [
  '--import',
  `file://${fileURLToPath(import.meta.resolve('tsx'))}`,
  `${repository}cli/src/main.ts`,
]

/** For `afterEach`: no test leaves a process behind. */
export async function killAll() {
  for (const child of [...running]) {
    const exit = once(child, 'exit')
    child.kill('SIGKILL')
    await exit
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

export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as { port: number }
  server.close()
  await once(server, 'close')
  return port
}

export async function newUser(url: string, name: string): Promise<Client> {
  const client = createClient({ url })
  const account = { email: `${name}@example.org`, password: 'a password for tests' }
  await client.auth.register(account)
  await logIn(client, account)
  return client
}
