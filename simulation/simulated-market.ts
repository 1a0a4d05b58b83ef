import { type Config, loadConfig } from '@orbyte/server/config.ts'
import type { Context, Log } from '@orbyte/server/context.ts'
import { converse } from '@orbyte/server/agents/agent-conversation.ts'
import { migrate } from '@orbyte/server/db/migrations.ts'
import { createEventLog, type StoredEvent } from '@orbyte/server/event-store.ts'
import { createMarket, type Market } from '@orbyte/server/market.ts'
import { micros } from '@orbyte/protocol'
import type { SeededRandom } from './seeded-random.ts'
import { epochMs, type SimulatedClock } from './simulated-clock.ts'
import { healthyDisk, isDiskError, type MarketDisk } from './market-disk.ts'
import type { SimulatedNetwork } from './simulated-network.ts'
import { type SimulatedProcess, simulatedProcess } from './simulated-process.ts'
import type { Trace } from './trace.ts'

/** The market that is up now: one process of the production code on the disk that all of them share. */
export type Generation = { readonly process: SimulatedProcess; readonly context: Context; readonly market: Market }

export type SimulatedMarket = {
  readonly disk: MarketDisk
  readonly config: Config
  /** Null: it is down, or still starting. */
  current(): Generation | null
  /** Starts a process, unless there is one. */
  start(): void
  kill(how: string): void
  /** It dies when it has reached out of itself so many times more: in the middle of whatever it does then. */
  killAfter(crossings: number, then: () => void): void
  /** Stops in the way that SIGTERM does. */
  stop(): void
  freeze(): void
  thaw(): void
  /** For how long it has been up, running, and on a disk that does what it should. */
  wellMs(): number
  /** To be called after each step. */
  lookAround(): void
}

type Parts = {
  readonly clock: SimulatedClock
  readonly random: SeededRandom
  readonly network: SimulatedNetwork
  readonly disk: MarketDisk
  readonly trace: Trace
  onStarted(generation: Generation): void
  onEvent(event: StoredEvent): void
  /** Something that no fault explains. */
  onTrouble(message: string): void
}

const second = 1_000
const minute = 60 * second

/** The product's own, with shorter windows for people, so that each of them passes within an hour. */
export function simulatedConfig(random: SeededRandom): Config {
  const defaults = loadConfig({
    DATABASE_URL: ':memory:',
    SECRET_KEY: 'a secret of the simulation',
    LEDGER_KEY: 'a ledger key of the simulation',
  })
  return {
    ...defaults,
    allowEmulatedGpus: true,
    feeBasisPoints: random.pick([0, 0, 250, 333])!,
    faucetMicrosPerDay: micros(1e12),
    timing: {
      ...defaults.timing,
      prepareMs: 2 * minute,
      reviewMs: 90 * second,
      disputeMs: 2 * minute,
      resultsKeptMs: 6 * minute,
      coolDownMaxMs: 4 * minute,
    },
  }
}

export function createSimulatedMarket(parts: Parts): SimulatedMarket {
  const { clock, random, network, disk, trace } = parts
  const config = simulatedConfig(random.fork('config'))
  let process: SimulatedProcess | null = null
  let current: Generation | null = null
  let generations = 0
  let unwellMs = 0

  function start() {
    if (process) return
    const starting = (process = simulatedProcess(clock, `market ${++generations}`))
    trace(`${starting.name} starts`)
    open(starting).then(
      (generation) => {
        if (!starting.isAlive()) return
        current = generation
        network.listen(starting, (socket) => converse(socket, generation.context, generation.market))
        trace(`${starting.name} is up`)
        parts.onStarted(generation)
      },
      (error: unknown) => {
        if (!starting.isAlive()) return
        if (!isDiskError(error)) parts.onTrouble(`${starting.name} could not start: ${stackOf(error)}`)
        kill('could not start')
        clock.after(5 * second, start)
      },
    )
  }

  async function open(started: SimulatedProcess): Promise<Generation> {
    const marketClock = {
      now: () => epochMs + clock.nowMs(),
      after: (delayMs: number, work: () => void) => started.after(delayMs, work),
    }
    const events = createEventLog(marketClock)
    events.subscribe((event) => started.isAlive() && parts.onEvent(event))
    const context: Context = {
      config,
      clock: marketClock,
      random: random.fork(started.name),
      log: logOf(started),
      database: disk.databaseFor(started),
      events,
      files: disk.fileStoreFor(started),
    }
    await migrate(context.database, { backupPath: null })
    const market = await createMarket(context, { catalogue: { models: [], files: new Map() } })
    return { process: started, context, market }
  }

  function logOf(owner: SimulatedProcess): Log {
    const write = (level: string) => (fields: object, message: string) => {
      if (!owner.isAlive()) return
      const { error, ...rest } = fields as { error?: unknown }
      trace(`${owner.name} ${level}: ${message} ${JSON.stringify(rest)} ${error === undefined ? '' : String(error)}`)
      if (level === 'error' && !isDiskError(error))
        parts.onTrouble(`the market logged what no fault explains: ${message}: ${stackOf(error)}`)
    }
    return { debug: () => {}, info: write('info'), warn: write('warn'), error: write('error') }
  }

  function kill(how: string) {
    if (!process) return
    trace(`${process.name} dies: ${how}`)
    process.kill()
    network.marketDied()
    process = current = null
  }

  return {
    disk,
    config,
    current: () => current,
    start,
    kill,
    killAfter(crossings, then) {
      process?.dieAfter(crossings, () => {
        kill('midway')
        then()
      })
    },
    stop() {
      if (!process || !current) return
      const stopping = process
      trace(`${stopping.name} is told to stop`)
      const gone = () => process === stopping && kill('stopped in order')
      current.market.stop().then(gone, gone)
      current = null
    },
    freeze() {
      process?.freeze()
    },
    thaw() {
      process?.thaw()
    },
    wellMs: () => clock.nowMs() - unwellMs,
    lookAround() {
      const { isFull, errorChance, writeMsMax } = disk.health
      const isDiskWell = !isFull && errorChance === 0 && writeMsMax === healthyDisk.writeMsMax
      if (!current || current.process.isFrozen() || !isDiskWell) unwellMs = clock.nowMs()
    },
  }
}

function stackOf(error: unknown): string {
  return error instanceof Error ? (error.stack ?? error.message) : String(error)
}
