import { existsSync } from 'node:fs'
import type { Clock } from '../clock.ts'
import {
  AttemptError,
  type AttemptInput,
  type ExecutorDevice,
  type ExecutorProblem,
  useOf,
} from '../executors/executor.ts'
import type { ReadVram } from '../gpus/nvidia-processes.ts'
import { driverMibMax, type Environment, engineEnvironment, mpsFolderOf } from './engine-environment.ts'
import { EngineProcess, type EngineRun } from './engine-process.ts'

export type EnginePoolOptions = {
  readonly entry: URL
  readonly enginesFolder: string | null
  /** The agent's own environment; an engine sees a small part of it. */
  readonly environment: Environment
  readonly clock: Clock
  readonly readVram: ReadVram
  log(line: string): void
}

/** How often it is looked how much VRAM an engine uses that has a share of a GPU. */
const vramCheckMs = 1_000
/** After so many looks in a row that showed nothing, whoever has a share is not watched any more. */
const unseenMax = 5

/** One warm engine process for each device: GPUs work at the same time, and one of them crashes alone. */
export interface EnginePool {
  /** With the warm engine of a GPU for whoever has all of it; for others in a process of their own, which ends with the attempt. */
  run(attempt: AttemptInput, run: Omit<EngineRun, 'attempt'>): Promise<Record<string, unknown>>
  /** Two runs for nobody, in a process that ends afterwards: whether the engine computes on this GPU. Rejects when it does not. */
  rehearse(device: ExecutorDevice, params: unknown): Promise<EngineRehearsal>
  /** What is wrong with the engine on this machine, or null. Tries it in a process that ends afterwards. */
  problem(): Promise<ExecutorProblem | null>
  pids(): number[]
  /** Ends the warm engine of a device. */
  free(deviceUuid: string): Promise<void>
  close(): Promise<void>
}

export type EngineRehearsal = {
  readonly output: Record<string, unknown>
  /** Of the second, from ready to its end: what is compiled when it is first needed is no part of it. */
  readonly runMs: number
  /** VRAM of the process, as the driver lists it; null: the driver does not list the process. */
  readonly vramMib: number | null
}

/** A driver may have to translate all of a library's code first. */
const rehearsalMsMax = 120_000

export function createEnginePool(options: EnginePoolOptions): EnginePool {
  const engines = new Map<string, EngineProcess>()
  /** Of attempts with several GPUs or with a share. */
  const own = new Set<EngineProcess>()
  const create = (devices: readonly ExecutorDevice[]) => {
    const environment = engineEnvironment(options.environment, devices, mpsFolderOf(options.environment, existsSync))
    return new EngineProcess({ ...options, environment })
  }

  function engineOf(device: ExecutorDevice): EngineProcess {
    const engine = engines.get(device.uuid) ?? create([device])
    engines.set(device.uuid, engine)
    return engine
  }

  async function free(deviceUuid: string) {
    await engines.get(deviceUuid)?.close()
  }

  async function runApart(attempt: AttemptInput, run: Omit<EngineRun, 'attempt'>) {
    const { devices } = attempt
    // What is kept warm there has VRAM that is this attempt's now.
    for (const { uuid } of devices) await free(uuid)
    const engine = create(devices)
    own.add(engine)
    const over = new AbortController()
    const exceeded = watchVram(engine, devices[0]!, { ...options, over: over.signal })
    try {
      return await engine.run({ ...run, attempt, signal: AbortSignal.any([run.signal, exceeded]) })
    } finally {
      over.abort()
      await engine.close()
      own.delete(engine)
    }
  }

  async function rehearse(device: ExecutorDevice, params: unknown): Promise<EngineRehearsal> {
    const { clock, readVram } = options
    const engine = create([device])
    own.add(engine)
    const [over, late] = [new AbortController(), new AbortController()]
    const tooLate = new AttemptError('too_slow', `It did not end in ${rehearsalMsMax / 1_000} s.`, 'provider')
    const limit = clock.sleep(rehearsalMsMax, over.signal).then(() => late.abort(tooLate))
    limit.catch(() => {})
    let readyAt = clock.now()
    const report = { ...silent, ready: () => void (readyAt = clock.now()) }
    try {
      const run = { params, report, signal: late.signal, attempt: { durationMsMax: rehearsalMsMax } }
      await engine.run(run)
      const output = await engine.run(run)
      const runMs = clock.now() - readyAt
      return { output, runMs, vramMib: (await readVram())?.get(engine.pid() ?? -1) ?? null }
    } finally {
      over.abort()
      await engine.close()
      own.delete(engine)
    }
  }

  return {
    run: (attempt, run) =>
      useOf(attempt.devices) === 'whole'
        ? engineOf(attempt.devices[0]!).run({ ...run, attempt })
        : runApart(attempt, run),
    rehearse,
    async problem() {
      const trial = create([])
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
    free,
    pids: () => [...engines.values(), ...own].flatMap((engine) => engine.pid() ?? []),
    async close() {
      await Promise.all([...engines.values(), ...own].map((engine) => engine.close()))
    },
  }
}

const silent = { preparing: () => {}, ready: () => {}, output: () => {}, log: () => {}, file: () => {} }

type Watching = Pick<EnginePoolOptions, 'clock' | 'readVram'> & { readonly over: AbortSignal }

/** Aborts once the engine uses more VRAM than it may, or it cannot be seen any more how much it uses. */
function watchVram(
  engine: EngineProcess,
  { kind, vramMib }: ExecutorDevice,
  { clock, readVram, over }: Watching,
): AbortSignal {
  const exceeded = new AbortController()
  const watch = async (most: number) => {
    let unseen = 0
    while (!over.aborted) {
      await clock.sleep(vramCheckMs, over).catch(() => {})
      if (over.aborted) return
      const used = await readVram()
      unseen = used === null ? unseen + 1 : 0
      // Of an emulated GPU there is nothing to see.
      if (kind === 'gpu' && unseen >= unseenMax) return exceeded.abort(unwatchedEnd())
      // A process that has no VRAM is not listed.
      const usedMib = (used?.get(engine.pid() ?? -1) ?? 0) - driverMibMax
      if (usedMib <= most) continue
      const message = `It used ${usedMib} MiB of VRAM beside the driver's own, and its share of the GPU has ${most} MiB. Ask for more with min_vram_gb.`
      return exceeded.abort(new AttemptError('vram_exceeded', message, 'renter'))
    }
  }
  if (vramMib !== null) watch(vramMib).catch(() => {})
  return exceeded.signal
}

function unwatchedEnd(): AttemptError {
  const message = 'The driver does not say any more how much VRAM the processes on this GPU use.'
  return new AttemptError('vram_unseen', message, 'provider')
}
