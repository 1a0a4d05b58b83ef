import type { BareProcess } from './bare-process.ts'
import type { LoadProcess, SubmitOptions } from './load-process.ts'
import type { Programs } from './programs.ts'
import { startRemote } from './remote.ts'

/** The messages of tasks with nothing behind them, and a load of their own. */
export type Bare = {
  /** How many a second. */
  run(way: Pick<SubmitOptions, 'connections' | 'batch' | 'tasks'>): Promise<number>
  stop(): Promise<void>
}

/** `reply`: the market's to a submission. */
export async function startBare(programs: Programs, options: { reply: string; agents: number }): Promise<Bare> {
  const bare = startRemote<BareProcess>(programs.path('bare-process'))
  const load = startRemote<LoadProcess>(programs.path('load-process'))
  const { url } = await bare.ask('start', { reply: options.reply })
  await load.ask('connect', { url, tokens: ['none'], agentsPerToken: options.agents, firstNumber: 0 })
  return {
    async run({ connections, batch, tasks }) {
      const { seconds } = await load.ask('submit', { url, keys: ['none'], connections, batch, tasks })
      return tasks / seconds
    },
    async stop() {
      await load.end()
      await bare.end()
    },
  }
}
