import { type Agent, startAgent } from './agent.ts'
import { type AgentOptions, type Environment } from './agent-config.ts'
import type { Outside } from './outside.ts'
import { type ControlServer, serveControl } from './owner/control.ts'
import { installMissingEngines } from './system-engines.ts'
import { lockFolder } from './system-lock.ts'
import { systemOutside } from './system-outside.ts'

export type SystemAgentOptions = {
  readonly options: AgentOptions
  readonly environment: Environment
  /** What is to be other than this machine's own. */
  readonly outside?: Partial<Outside>
  /** Gives the start up, while engines are being installed. */
  readonly signal?: AbortSignal
}

/**
 * An agent on this machine: alone on its data folder, with its engines installed, and open to its owner's commands. Rejects
 * when another agent has the folder. `ended` resolves when the folder is free again.
 */
export async function startSystemAgent({ options, environment, outside, signal }: SystemAgentOptions): Promise<Agent> {
  const { dataPath } = options
  const lock = await lockFolder(dataPath)
  let control: ControlServer | null = null
  try {
    const all = { ...systemOutside(options, environment), ...outside }
    const stopped = signal ?? new AbortController().signal
    if (outside?.executors === undefined) {
      await installMissingEngines({ dataPath, environment, log: all.log, signal: stopped })
    }
    const agent = startAgent(options, all)
    control = await serveControl(agent, dataPath)
    const ended = agent.ended.finally(async () => {
      await control?.close()
      await lock.release()
    })
    return withEnded(agent, ended)
  } catch (error) {
    await lock.release()
    throw error
  }
}

function withEnded(agent: Agent, ended: Agent['ended']): Agent {
  return {
    ended,
    status: () => agent.status(),
    drain: (gpu) => agent.drain(gpu),
    resume: (gpu) => agent.resume(gpu),
    reclaim: (gpu) => agent.reclaim(gpu),
    stop: (mode) => agent.stop(mode),
  }
}
