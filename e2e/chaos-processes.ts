import { orbyte, type Process } from './processes.ts'

/** A process that is killed, stopped and started again. It is always the same one: its name, its folder, its words. */
export type Victim = {
  readonly name: string
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
  /** The line that says that it is up; null: it is up when it has been started. */
  upWhen: RegExp | null
  /** It ended and nobody had asked it to, it did not end in order when asked to, or it said what it never should. */
  onTrouble: (sentence: string) => void
}

/** An agent finishes what it runs. One that takes longer is killed, which is trouble. */
const endMsMax = 60_000

export function createVictim({ name, words, cwd, env, upWhen, onTrouble }: VictimOptions): Victim {
  let running: Process | null = null

  function watch(started: Process) {
    started.child.once('close', (code, signal) => {
      for (const line of started.said().split('\n'))
        if (isTrouble(line)) onTrouble(`${name} said: ${line.slice(0, 600)}`)
      if (running !== started) return
      running = null
      onTrouble(`${name} ended by itself (${signal ?? code}): ${started.said().slice(-1_000)}`)
    })
  }

  return {
    name,
    async start() {
      if (running !== null) return
      const started = orbyte(words, { cwd, env })
      running = started
      watch(started)
      // One that ends before it is up has told so.
      if (upWhen !== null) await started.line(upWhen).catch(() => {})
    },
    async kill() {
      const ending = running
      running = null
      await ending?.kill('SIGKILL')
    },
    async end() {
      const ending = running
      running = null
      if (ending === null) return
      const late = setTimeout(() => ending.child.kill('SIGKILL'), endMsMax)
      await ending.kill('SIGTERM')
      clearTimeout(late)
      const { exitCode, signalCode } = ending.child
      // One that does not listen yet, because it was started just now, is ended by the signal itself.
      if (exitCode !== 0 && signalCode !== 'SIGTERM')
        onTrouble(`${name} ended with ${signalCode ?? exitCode}: ${ending.said().slice(-1_000)}`)
    },
    freeze: () => void running?.child.kill('SIGSTOP'),
    thaw: () => void running?.child.kill('SIGCONT'),
  }
}

/** A line of a log at level error, or the stack of something that nobody caught. */
function isTrouble(line: string): boolean {
  return /^\{"level":(50|60),|^\S+Z error: /.test(line) || /^\s+at .+\(?(file|node|\/).*:\d+:\d+\)?$/.test(line)
}
