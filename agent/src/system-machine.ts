import { execFile } from 'node:child_process'
import { readlinkSync } from 'node:fs'
import { statfs } from 'node:fs/promises'
import { arch, availableParallelism, cpus, hostname, release, totalmem, type } from 'node:os'
import type { RunCommand } from './gpus/gpu-detector.ts'
import type { Machine } from './outside.ts'

const commandMsMax = 10_000
const commandBytesMax = 4_000_000

export function systemMachine(dataPath: string): Machine {
  const processors = cpus()
  return {
    hostname: hostname().slice(0, 200),
    os: `${type()} ${release()} ${arch()}`.slice(0, 200),
    cpuModel: (processors[0]?.model.trim() || arch()).slice(0, 200),
    cpuCores: processors.length || availableParallelism(),
    ramBytes: totalmem(),
    async diskFreeBytes() {
      const { bavail, bsize } = await statfs(dataPath)
      return bavail * bsize
    },
  }
}

/** The namespace of processes that this one is in: another in each container that has its own. Null: the system has no such thing. */
export function systemProcessSpace(): string | null {
  try {
    return readlinkSync('/proc/self/ns/pid')
  } catch {
    return null
  }
}

export const systemRun: RunCommand = async (command, args) =>
  await new Promise((resolve) => {
    const options = {
      timeout: commandMsMax,
      killSignal: 'SIGKILL',
      maxBuffer: commandBytesMax,
      windowsHide: true,
    } as const
    execFile(command, [...args], options, (error, stdout, stderr) => {
      if (error?.code === 'ENOENT' || error?.code === 'EACCES') return resolve(null)
      const exitCode = error === null ? 0 : typeof error.code === 'number' ? error.code : 1
      resolve({ exitCode, stdout, stderr: stderr || (error === null ? '' : error.message) })
    })
  })
