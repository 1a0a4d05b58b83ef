import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'

/** What a program does when it is asked: each function takes one argument and answers with something that survives JSON. */
export type Functions = Record<string, (argument: never) => unknown>
type Question = { id: number; name: string; argument: unknown }
type Answer = { id: number; value?: unknown; error?: string }
type ArgumentOf<F> = F extends () => unknown ? [] : F extends (argument: infer A) => unknown ? [argument: A] : never

/** A program in a process of its own. */
export type Remote<F extends Functions> = {
  readonly child: ChildProcess
  ask<N extends keyof F & string>(name: N, ...argument: ArgumentOf<F[N]>): Promise<Awaited<ReturnType<F[N]>>>
  /** Ends it at once, as a crash would. */
  kill(): Promise<void>
  /** Lets it end by itself, which it does when nobody can ask any more. */
  end(): Promise<void>
}

/** Starts the program at `path` and lets its functions be called as if they were here. */
export function startRemote<F extends Functions>(path: string, nodeOptions: readonly string[] = []): Remote<F> {
  const child = fork(path, { execArgv: [...nodeOptions], serialization: 'json' })
  const waiting = new Map<number, { resolve: (value: never) => void; reject: (error: Error) => void }>()
  let asked = 0
  child.on('message', (message) => {
    const { id, value, error } = message as Answer
    const question = waiting.get(id)
    waiting.delete(id)
    if (error === undefined) question?.resolve(value as never)
    else question?.reject(new Error(error))
  })
  const exited = once(child, 'exit')
  void exited.then(([code, signal]) => {
    for (const { reject } of waiting.values()) reject(new Error(`${path} has ended (${code ?? signal})`))
    waiting.clear()
  })
  return {
    child,
    ask(name, ...argument) {
      const id = asked++
      return new Promise((resolve, reject) => {
        waiting.set(id, { resolve, reject })
        child.send({ id, name, argument: argument[0] } satisfies Question, (error) => error && reject(error))
      })
    },
    async kill() {
      child.kill('SIGKILL')
      await exited
    },
    async end() {
      if (child.connected) child.disconnect()
      await exited
    },
  }
}

/** The program's side: answers until the process that started it lets go. */
export function answer(functions: Functions, { onEnd }: { onEnd: () => Promise<void> }): void {
  process.on('message', (message) => {
    const { id, name, argument } = message as Question
    const reply = (answer: Omit<Answer, 'id'>) => process.send?.({ id, ...answer })
    Promise.resolve()
      .then(() => functions[name]!(argument as never))
      .then(
        (value) => reply({ value }),
        (error: unknown) => reply({ error: error instanceof Error ? (error.stack ?? error.message) : String(error) }),
      )
  })
  process.on('disconnect', () => {
    onEnd().then(
      () => process.exit(0),
      (error: unknown) => {
        console.error(error)
        process.exit(1)
      },
    )
  })
}
