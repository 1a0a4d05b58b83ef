import type { Clock } from '../clock.ts'
import type { ExecutorDevice, ExecutorProblem } from '../executors/executor.ts'
import { type Environment, engineEnvironment } from './engine-environment.ts'
import { EngineProcess } from './engine-process.ts'

export type EnginePoolOptions = {
  readonly entry: URL
  readonly enginesFolder: string | null
  /** The agent's own environment; an engine sees a small part of it. */
  readonly environment: Environment
  readonly clock: Clock
  log(line: string): void
}

/** One warm engine process for each device: GPUs work at the same time, and one of them crashes alone. */
export interface EnginePool {
  engineOf(device: ExecutorDevice): EngineProcess
  /** What is wrong with the engine on this machine, or null. Tries it in a process that ends afterwards. */
  problem(): Promise<ExecutorProblem | null>
  pids(): number[]
  close(): Promise<void>
}

export function createEnginePool(options: EnginePoolOptions): EnginePool {
  const engines = new Map<string, EngineProcess>()
  const create = (device: ExecutorDevice | null) =>
    new EngineProcess({ ...options, environment: engineEnvironment(options.environment, device) })

  return {
    engineOf(device) {
      const engine = engines.get(device.uuid) ?? create(device)
      engines.set(device.uuid, engine)
      return engine
    },
    async problem() {
      const trial = create(null)
      try {
        await trial.check()
        return null
      } catch (error) {
        const message = error instanceof Error ? error.message : String(error)
        return {
          message,
          remedy: 'Start the agent again with access to the npm registry: it installs its engines at start.',
        }
      } finally {
        await trial.close()
      }
    },
    pids: () => [...engines.values()].flatMap((engine) => engine.pid() ?? []),
    async close() {
      await Promise.all([...engines.values()].map((engine) => engine.close()))
    },
  }
}
