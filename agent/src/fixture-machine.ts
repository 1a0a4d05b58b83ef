import { randomBytes } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Agent, startAgent, type StartOptions } from './agent.ts'
import { noLimits } from './agent-config.ts'
import { createFakeExecutor } from './executors/fake-executor.ts'
import { type FixtureMarket, newId, startMarket } from './fixture-market.ts'
import { type ManualClock, manualClock } from './fixture-clock.ts'
import { createEmulatedDetector } from './gpus/emulated.ts'
import type { Outside } from './outside.ts'
import { systemNetwork } from './system-network.ts'
import { systemStorage } from './system-storage.ts'

/** A machine with two emulated GPUs and the fake executor, for tests: real socket, real disk, and a clock that is moved. */
export type FixtureMachine = {
  readonly market: FixtureMarket
  readonly clock: ManualClock
  readonly dataPath: string
  readonly logged: string[]
  /** Starts an agent, as a process would; the last one is taken for dead. */
  start(options?: Partial<StartOptions>, outside?: Partial<Outside>): Promise<Agent>
  /** Without waiting for its hello. */
  startOnly(options?: Partial<StartOptions>, outside?: Partial<Outside>): Agent
  /** The uuids of its GPUs. */
  devices(): string[]
  /** Asks the agent to run an attempt on its first GPU. */
  offer(changes?: Record<string, unknown>): { attempt_id: string; fencing_token: string }
  close(): Promise<void>
}

/** All of one device, as the market offers it. */
export const whole = (uuid: string | undefined) => [{ uuid, milli: 1_000, vram_mib: null }]

export async function createMachine(): Promise<FixtureMachine> {
  const market = await startMarket()
  const clock = manualClock()
  const dataPath = await mkdtemp(join(tmpdir(), 'orbyte-agent-'))
  const agents: Agent[] = []
  const logged: string[] = []
  const keep = (message: string) => void logged.push(message)
  const machine: FixtureMachine = {
    market,
    clock,
    dataPath,
    logged,
    startOnly(options, outside) {
      const agent = startAgent({ ...startOptions, server: market.url, ...options }, { ...parts(), ...outside })
      agents.push(agent)
      return agent
    },
    async start(options, outside) {
      const agent = machine.startOnly(options, outside)
      const hello = await market.next('hello')
      // The agent before may have said more than anybody asked for.
      while (market.heard.indexOf(await market.next('heartbeat')) < market.heard.indexOf(hello));
      return agent
    },
    devices: () =>
      market
        .all('hello')
        .at(-1)!
        .devices.map(({ uuid }) => uuid),
    offer(changes) {
      const attempt = { attempt_id: newId('attempt'), fencing_token: 'token-1' }
      const devices = whole(machine.devices()[0])
      market.send({ ...startMessage, task_id: newId('task'), ...attempt, devices, ...changes } as never)
      return attempt
    },
    async close() {
      for (const agent of agents) agent.stop('now')
      const ended = Promise.all(agents.map((agent) => agent.ended))
      let isOver = false
      void ended.then(() => (isOver = true))
      while (!isOver) await clock.advance(1_000)
      await market.close()
      await rm(dataPath, { recursive: true })
    },
  }

  function parts(): Outside {
    return {
      clock,
      random: { bytes: (count) => randomBytes(count) },
      log: { debug: keep, info: keep, warn: keep, error: keep },
      network: systemNetwork,
      storage: systemStorage(dataPath),
      machine: {
        hostname: 'bench',
        os: 'Linux 6.8 x64',
        cpuModel: 'AMD Ryzen 9 7950X',
        cpuCores: 32,
        ramBytes: 64 * 2 ** 30,
        diskFreeBytes: async () => 100 * 2 ** 30,
      },
      executors: [createFakeExecutor({ clock })],
      models: {
        fetchModel: async () => {
          throw new Error('no model is fetched in this test')
        },
      },
      detectors: (fingerprint) => [
        createEmulatedDetector({ gpus: [{ model: 'RTX 4090', vramGb: 24, count: 2 }], fingerprint }),
      ],
      version: '1.2.3',
    }
  }
  return machine
}

const startOptions: Omit<StartOptions, 'server'> = {
  token: 'secret',
  name: null,
  region: 'eu-west',
  pricePerHour: '0.5',
  sharing: false,
  limits: noLimits,
  drainMsMax: 600_000,
}

const startMessage = {
  type: 'attempt.start',
  task_type: 'other',
  input: {},
  model: null,
  duration_ms_max: 600_000,
  deadline_in_ms: 80_000,
  output_bytes_max: 10_000_000,
}
