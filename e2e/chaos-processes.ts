import { randomUUID } from 'node:crypto'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { build } from 'esbuild'
import { bundleSettings, engineEntries, packagesOfWorkspaces } from '../scripts/bundle.ts'
import { repository } from '../scripts/stamps.mjs'
import { orbyte, type Process } from './processes.ts'

/** A process that is killed, stopped and started again. It is always the same one: its name, its folder, its words. */
export type Victim = {
  readonly name: string
  readonly isUp: boolean
  start(): Promise<void>
  kill(): Promise<void>
  /** In order: SIGTERM. */
  end(): Promise<void>
  /** Takes its time away; `thaw` gives it back. */
  freeze(): void
  thaw(): void
}

export type VictimOptions = {
  name: string
  words: readonly string[]
  cwd: string
  env: Record<string, string>
  program: readonly string[]
  /** The line that says that it is up; null: it is up when it has been started. */
  upWhen: RegExp | null
  /** It ended, and nobody had asked it to; or it said what it never should. */
  onTrouble: (sentence: string) => void
}

export function createVictim(options: VictimOptions): Victim {
  const { name, words, cwd, env, program, upWhen, onTrouble } = options
  let running: Process | null = null

  function watch(started: Process) {
    started.child.once('exit', (code, signal) => {
      for (const line of started.said().split('\n'))
        if (isTrouble(line)) onTrouble(`${name} said: ${line.slice(0, 600)}`)
      if (running !== started) return
      running = null
      onTrouble(`${name} ended by itself (${signal ?? code}): ${started.said().slice(-1_000)}`)
    })
  }

  async function finish(signal: 'SIGKILL' | 'SIGTERM') {
    const ending = running
    running = null
    await ending?.kill(signal)
  }

  return {
    name,
    get isUp() {
      return running !== null
    },
    async start() {
      if (running !== null) return
      const started = orbyte(words, { cwd, env, program })
      running = started
      watch(started)
      if (upWhen !== null) await started.line(upWhen).catch(() => {})
    },
    kill: () => finish('SIGKILL'),
    end: () => finish('SIGTERM'),
    freeze: () => void running?.child.kill('SIGSTOP'),
    thaw: () => void running?.child.kill('SIGCONT'),
  }
}

/** A line of the market's log at level error, or the stack of something that nobody caught. */
function isTrouble(line: string): boolean {
  return /^\{"level":(50|60),/.test(line) || /^\s+at .+\(?(file|node|\/).*:\d+:\d+\)?$/.test(line)
}

/** The command in one folder of JavaScript, which starts in a fraction of the time that its sources take. */
export async function buildProgram(): Promise<{ program: string[]; remove: () => Promise<void> }> {
  // Within the checkout, so that it finds the npm packages.
  const outdir = join(repository, 'node_modules', `.orbyte-chaos-${randomUUID()}`)
  await build({
    ...bundleSettings,
    entryPoints: { orbyte: join(repository, 'cli/src/main.ts'), ...(await engineEntries()) },
    outdir,
    external: await packagesOfWorkspaces(),
  })
  return { program: [join(outdir, 'orbyte.js')], remove: () => rm(outdir, { recursive: true, force: true }) }
}
