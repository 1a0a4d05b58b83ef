import { type Agent, startAgent } from '@orbyte/agent/agent.ts'
import { noLimits } from '@orbyte/agent/agent-config.ts'
import type { MonotonicClock } from '@orbyte/agent/clock.ts'
import { createEmulatedDetector } from '@orbyte/agent/gpus/emulated.ts'
import type { Network, Outside } from '@orbyte/agent/outside.ts'
import { formatOrb } from '@orbyte/protocol'
import { createMachineDisk, type MachineDisk } from './machine-disk.ts'
import type { SeededRandom } from './seeded-random.ts'
import { epochMs, type SimulatedClock } from './simulated-clock.ts'
import { type TrueRuns, witnessedExecutor } from './simulated-executor.ts'
import type { SimulatedNetwork } from './simulated-network.ts'
import { type SimulatedProcess, simulatedProcess } from './simulated-process.ts'
import type { Trace } from './trace.ts'
import { type Said, witnessed } from './witness.ts'

/** A provider's machine: emulated GPUs, a disk, clocks that may be wrong, and the production agent on it. */
export type SimulatedMachine = {
  readonly name: string
  readonly ownerId: string
  readonly disk: MachineDisk
  /** Null: none runs, or it has ended. */
  agent(): Agent | null
  start(): void
  /** `power`: the whole machine is gone, and what it had not written durably with it. */
  kill(how: 'kill' | 'power'): void
  /** The agent process dies when it has reached out of itself so many times more: in the middle of whatever it does then. */
  killAfter(crossings: number, then: () => void): void
  /** The agent process stands still: SIGSTOP, or the machine is asleep. It goes on after `forMs`. */
  freeze(how: 'process' | 'machine', forMs: number): void
  setWallClock(offMs: number): void
  isUp(): boolean
  /** Its owner has given up: it is gone, and does not come back. */
  retire(): void
}

export type MachineParts = {
  readonly clock: SimulatedClock
  readonly random: SeededRandom
  readonly network: SimulatedNetwork
  readonly trace: Trace
  readonly runs: TrueRuns
  readonly name: string
  readonly ownerId: string
  readonly token: string
  /** Among the cheapest, so that it gets work. */
  readonly isCheap: boolean
  /** What becomes of the network that an agent process on it sees. */
  tamper(network: Network): Network
  onAcknowledged(said: Said): void
  onResultForgotten(attemptId: string): void
}

/** How fast clocks run that are wrong: a little, as crystals are; or much, as in a virtual machine that is badly set up. */
const wrongClockRates = [0.9995, 1.0005, 0.96, 1.5]

export function createSimulatedMachine(parts: MachineParts): SimulatedMachine {
  const { clock, random, network, trace, runs, name } = parts
  const disk = createMachineDisk(random.fork('disk'))
  disk.onRemove((file) => {
    const attemptId = /^results\/(.+)\.json$/.exec(file)?.[1]
    if (attemptId !== undefined) parts.onResultForgotten(attemptId)
  })
  const gpus = [
    {
      model: random.pick(['RTX 4090', 'RTX 3090', 'A100'])!,
      vramGb: random.pick([24, 48, 80])!,
      count: random.pick([1, 1, 1, 2, 4])!,
    },
  ]
  const price = formatOrb(random.integer(300_000, parts.isCheap ? 500_000 : 4_000_000))
  const isShared = random.chance(0.4)
  const clockRate = random.chance(0.25) ? random.pick(wrongClockRates)! : 1
  let process: SimulatedProcess | null = null
  let agent: Agent | null = null
  let boots = 0
  let isRetired = false
  let wallClockOffMs = random.chance(0.2) ? random.integer(-3_600_000, 3_600_000) : random.integer(-500, 500)

  function clockOf(owner: SimulatedProcess): MonotonicClock {
    const bootedMs = clock.nowMs()
    return {
      now: () => epochMs + Math.floor(clock.nowMs() * clockRate) + wallClockOffMs,
      monotonicMs: () => (clock.nowMs() - bootedMs - owner.sleptMs()) * clockRate,
      sleep: (ms, signal) => sleep(owner, ms / clockRate, signal),
    }
  }

  function outsideOf(owner: SimulatedProcess): Outside {
    const agentClock = clockOf(owner)
    const log = (level: string) => (message: string) => owner.isAlive() && trace(`${owner.name} ${level}: ${message}`)
    return {
      clock: agentClock,
      random: random.fork(owner.name),
      log: { debug: () => {}, info: () => {}, warn: log('warn'), error: log('error') },
      network: witnessed(parts.tamper(network.networkOf(name, owner)), parts.onAcknowledged),
      storage: disk.storageFor(owner),
      machine: {
        hostname: name,
        os: 'simulated',
        cpuModel: 'simulated',
        cpuCores: 8,
        ramBytes: 2 ** 35,
        diskFreeBytes: async () => 2 ** 40,
      },
      executors: [witnessedExecutor(clock, { agentClock, clockRate, process: owner, runs })],
      models: { fetchModel: () => Promise.reject(new Error('the simulation has no models')) },
      detectors: (fingerprint) => [createEmulatedDetector({ gpus, fingerprint })],
      version: '1.0.0',
    }
  }

  function over(isHeard: boolean) {
    if (!process) return
    const dead = process
    process = agent = null
    dead.kill()
    runs.died(dead)
    network.agentDied(dead, isHeard)
  }

  function kill(how: 'kill' | 'power') {
    if (!process) return
    trace(`${process.name} ${how === 'kill' ? 'is killed' : 'loses its power'}`)
    over(how === 'kill')
    if (how === 'power') disk.losePower()
  }

  return {
    name,
    ownerId: parts.ownerId,
    disk,
    agent: () => agent,
    isUp: () => process !== null,
    retire() {
      kill('power')
      isRetired = true
    },
    start() {
      if (process || isRetired) return
      const starting = (process = simulatedProcess(clock, `${name}.${++boots}`))
      trace(`${starting.name} starts`)
      const options = {
        server: 'http://market',
        token: parts.token,
        name: null,
        region: null,
        pricePerHour: price,
        sharing: isShared,
      }
      agent = startAgent({ ...options, limits: noLimits, drainMsMax: 60_000 }, outsideOf(starting))
      const ended = agent.ended
      void ended.then(({ reason, message }) => {
        if (process !== starting) return
        trace(`${starting.name} has ended: ${reason}: ${message}`)
        over(true)
      })
    },
    kill,
    killAfter(crossings, then) {
      process?.dieAfter(crossings, () => {
        kill('kill')
        then()
      })
    },
    freeze(how, forMs) {
      if (!process || process.isFrozen()) return
      const frozen = process
      trace(`${frozen.name} ${how === 'process' ? 'is frozen' : 'falls asleep'} for ${forMs} ms`)
      frozen.freeze()
      clock.after(forMs, () => {
        trace(`${frozen.name} goes on`)
        frozen.thaw(how === 'machine' ? forMs : 0)
      })
    },
    setWallClock(offMs) {
      trace(`${name} has its clock set to ${offMs} ms off`)
      wallClockOffMs = offMs
    },
  }
}

async function sleep(owner: SimulatedProcess, ms: number, signal?: AbortSignal): Promise<void> {
  signal?.throwIfAborted()
  await new Promise<void>((resolve, reject) => {
    const onAbort = () => {
      cancel()
      reject(signal!.reason as Error)
    }
    const cancel = owner.after(ms, () => {
      signal?.removeEventListener('abort', onAbort)
      resolve()
    })
    signal?.addEventListener('abort', onAbort, { once: true })
  })
}
