import { type Agent, startAgent } from '@orbyte/agent/agent.ts'
import { noLimits } from '@orbyte/agent/agent-config.ts'
import type { MonotonicClock } from '@orbyte/agent/clock.ts'
import { createEmulatedDetector } from '@orbyte/agent/gpus/emulated.ts'
import type { Network, Outside } from '@orbyte/agent/outside.ts'
import { formatOrb } from '@orbyte/protocol'
import type { SeededRandom } from './seeded-random.ts'
import { epochMs, type SimulatedClock } from './simulated-clock.ts'
import { createMachineDisk, type MachineDisk } from './simulated-disk.ts'
import { type TrueRuns, witnessedExecutor } from './simulated-executor.ts'
import type { SimulatedNetwork } from './simulated-network.ts'
import { type SimulatedProcess, simulatedProcess } from './simulated-process.ts'
import type { Trace } from './trace.ts'

/** A provider's machine: emulated GPUs, a disk, a wall clock that may be wrong, and the production agent on it. */
export type SimulatedMachine = {
  readonly name: string
  readonly ownerId: string
  readonly disk: MachineDisk
  /** Null: none runs, or it has ended. */
  agent(): Agent | null
  start(): void
  /** `power`: the whole machine is gone, and what it had not written durably with it. */
  kill(how: 'kill' | 'power'): void
  /** The agent process stands still: SIGSTOP, or the machine is asleep. It goes on after `forMs`. */
  freeze(how: 'process' | 'machine', forMs: number): void
  setWallClock(offMs: number): void
  isUp(): boolean
}

/** A result as it left an agent, with its number in the conversation. */
export type SentResult = { readonly attemptId: string; readonly outcome: string; readonly seq: number }

export type MachineParts = {
  readonly clock: SimulatedClock
  readonly random: SeededRandom
  readonly network: SimulatedNetwork
  readonly trace: Trace
  readonly runs: TrueRuns
  readonly name: string
  readonly ownerId: string
  readonly token: string
  onResultAcknowledged(result: SentResult): void
  onResultForgotten(attemptId: string): void
}

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
  const price = formatOrb(random.integer(300_000, 4_000_000))
  let process: SimulatedProcess | null = null
  let agent: Agent | null = null
  let boots = 0
  let wallClockOffMs = random.chance(0.2) ? random.integer(-3_600_000, 3_600_000) : random.integer(-500, 500)

  function clockOf(owner: SimulatedProcess): MonotonicClock {
    const bootedMs = clock.nowMs()
    return {
      now: () => epochMs + clock.nowMs() + wallClockOffMs,
      monotonicMs: () => clock.nowMs() - bootedMs - owner.sleptMs(),
      sleep: (ms, signal) => sleep(owner, ms, signal),
    }
  }

  function outsideOf(owner: SimulatedProcess): Outside {
    const agentClock = clockOf(owner)
    const log = (level: string) => (message: string) => owner.isAlive() && trace(`${owner.name} ${level}: ${message}`)
    return {
      clock: agentClock,
      random: random.fork(owner.name),
      log: { debug: () => {}, info: () => {}, warn: log('warn'), error: log('error') },
      network: witnessed(network.networkOf(name, owner), parts.onResultAcknowledged),
      storage: disk.storageFor(owner),
      machine: {
        hostname: name,
        os: 'simulated',
        cpuModel: 'simulated',
        cpuCores: 8,
        ramBytes: 2 ** 35,
        diskFreeBytes: async () => 2 ** 40,
      },
      executors: [witnessedExecutor(clock, { agentClock, process: owner, runs })],
      models: { fetchModel: () => Promise.reject(new Error('the simulation has no models')) },
      detectors: (fingerprint) => [createEmulatedDetector({ gpus, fingerprint })],
      version: '1.0.0',
    }
  }

  function over(isHeard: boolean) {
    if (!process) return
    process.kill()
    runs.died(process)
    network.agentDied(process, isHeard)
    process = agent = null
  }

  return {
    name,
    ownerId: parts.ownerId,
    disk,
    agent: () => agent,
    isUp: () => process !== null,
    start() {
      if (process) return
      const starting = (process = simulatedProcess(clock, `${name}.${++boots}`))
      trace(`${starting.name} starts`)
      const options = { server: 'http://market', token: parts.token, name: null, region: null, pricePerHour: price }
      agent = startAgent({ ...options, limits: noLimits, drainMsMax: 60_000 }, outsideOf(starting))
      const ended = agent.ended
      void ended.then(({ reason, message }) => {
        if (process !== starting) return
        trace(`${starting.name} has ended: ${reason}: ${message}`)
        over(true)
      })
    },
    kill(how) {
      if (!process) return
      trace(`${process.name} ${how === 'kill' ? 'is killed' : 'loses its power'}`)
      over(how === 'kill')
      if (how === 'power') disk.loseWhatIsNotDurable()
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

type Wire = { type: string; seq?: number; attempt_id?: string; outcome?: string; acked_seq?: number }

/** Notes which results an agent sends and, when they are acknowledged, says so. */
function witnessed(network: Network, onAcknowledged: (result: SentResult) => void): Network {
  let sent: SentResult[] = []
  const acknowledged = (seq: number) => {
    for (const result of sent) if (result.seq <= seq) onAcknowledged(result)
    sent = sent.filter((result) => result.seq > seq)
  }
  return {
    connect(url, listener) {
      const socket = network.connect(url, {
        ...listener,
        message(text) {
          const { type, seq, acked_seq } = JSON.parse(text) as Wire
          if (type === 'ack') acknowledged(seq!)
          if (type === 'welcome') acknowledged(acked_seq!)
          listener.message(text)
        },
      })
      return {
        ...socket,
        send(text) {
          if (text.includes('"type":"attempt.result"')) {
            const { attempt_id, outcome, seq } = JSON.parse(text) as Wire
            if (!sent.some((result) => result.seq === seq))
              sent.push({ attemptId: attempt_id!, outcome: outcome!, seq: seq! })
          }
          socket.send(text)
        },
      }
    },
  }
}
