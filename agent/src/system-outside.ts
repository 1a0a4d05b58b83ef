import { randomBytes } from 'node:crypto'
import { join } from 'node:path'
import { printable } from '@orbyte/protocol'
import { type AgentOptions, type Environment, type LogLevel } from './agent-config.ts'
import { createExecutors } from './executors/executors.ts'
import { createAmdDetector } from './gpus/amd.ts'
import { createAppleDetector } from './gpus/apple.ts'
import { createCpuDetector } from './gpus/cpu.ts'
import { createEmulatedDetector } from './gpus/emulated.ts'
import type { GpuDetector } from './gpus/gpu-detector.ts'
import { createNvidiaDetector } from './gpus/nvidia.ts'
import { createNvidiaVramReader } from './gpus/nvidia-processes.ts'
import { createModelCache } from './model-cache/model-cache.ts'
import type { Log, Machine, Outside } from './outside.ts'
import { systemClock } from './system-clock.ts'
import { systemMachine, systemProcessSpace, systemRun } from './system-machine.ts'
import { systemNetwork } from './system-network.ts'
import { systemStorage } from './system-storage.ts'
import { version } from './version.ts'

/** This machine, its network and its disk. */
export function systemOutside(options: AgentOptions, environment: Environment): Outside {
  const { dataPath, modelFolders, server } = options
  const log = systemLog(options.logLevel)
  const machine = systemMachine(dataPath)
  const storage = systemStorage(dataPath)
  return {
    clock: systemClock,
    random: { bytes: (count) => randomBytes(count) },
    log,
    network: systemNetwork,
    storage,
    machine,
    executors: createExecutors({
      withFake: options.allowFake,
      openai: options.openai,
      enginesFolder: enginesFolder(dataPath),
      environment,
      clock: systemClock,
      readVram: createNvidiaVramReader({ run: systemRun }),
      storage,
      processSpace: systemProcessSpace(),
      fetch,
      newSeed: () => randomBytes(4).readUInt32LE(),
      log: (line) => log.debug(`engine: ${line}`),
    }),
    models: createModelCache({ dataFolder: dataPath, modelFolders, serverUrl: server, fetch, clock: systemClock }),
    detectors: (fingerprint) => systemDetectors(options, { machine, fingerprint }),
    version,
  }
}

export function enginesFolder(dataPath: string): string {
  return join(dataPath, 'engines')
}

export function systemLog(level: LogLevel): Log {
  const levels = ['debug', 'info', 'warn', 'error'] as const
  const lowest = level === 'silent' ? levels.length : levels.indexOf(level)
  const writeAt = (name: (typeof levels)[number]) => (message: string) => {
    if (levels.indexOf(name) < lowest) return
    const mark = name === 'info' ? '' : `${name}: `
    // Much of it is what the market says.
    process.stderr.write(`${new Date().toISOString()} ${mark}${printable(message)}\n`)
  }
  return { debug: writeAt('debug'), info: writeAt('info'), warn: writeAt('warn'), error: writeAt('error') }
}

type Surroundings = { readonly machine: Machine; readonly fingerprint: string }

/** Emulated GPUs stand in for the machine's own ones. */
function systemDetectors(options: AgentOptions, { machine, fingerprint }: Surroundings): GpuDetector[] {
  const run = systemRun
  const own = [
    createNvidiaDetector({ run, ramBytes: machine.ramBytes }),
    createAmdDetector({ run }),
    createAppleDetector({ run }),
  ]
  const { emulatedGpus } = options
  return [
    ...(emulatedGpus.length > 0 ? [createEmulatedDetector({ gpus: emulatedGpus, fingerprint })] : own),
    ...(options.offerCpu ? [createCpuDetector({ machine, fingerprint })] : []),
  ]
}
