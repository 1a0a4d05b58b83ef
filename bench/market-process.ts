import { Session } from 'node:inspector/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { type Server, startServer } from '@orbyte/server'
import { loadConfig } from '@orbyte/server/config.ts'
import { verifyLedger } from '@orbyte/server/ledger/ledger-verify.ts'
import { type CpuProfile, profileTable } from './profile.ts'
import { answer } from './remote.ts'

/*
 * A market as `orbyte serve` runs it, in a process of its own. Only limits that are there to keep one renter from using all of
 * it are raised, because the load comes from a few; they are still counted.
 */

export type StartOptions = { databasePath: string; port: number; modelsPath: string }
export type Usage = {
  /** User and system time of all threads since the process began. */
  cpuUs: number
  residentBytes: number
  /** What is alive in the heap and in buffers beside it. */
  usedBytes: number
}
export type MarketProcess = {
  start(options: StartOptions): Promise<{ url: string }>
  /** After a garbage collection, if that is asked for, and once V8 has given back what it left empty. */
  usage(options: { collectGarbage: boolean }): Promise<Usage>
  /** How many tasks the ledger has paid providers for. */
  settled(): Promise<number>
  startProfile(): Promise<void>
  /** Where the time went since then, as a table. */
  stopProfile(): Promise<string>
  /** What is wrong with the ledger. */
  verify(): Promise<string[]>
}

let server: Server | null = null
/** Counted up to a transfer: to read all of them each time would cost more than the tasks. */
let paid = { count: 0, seq: 0 }
const inspector = new Session()

/** V8 gives pages that are almost empty back step by step: so it collects until no more than a megabyte comes of it. */
async function collectAll() {
  for (
    let before = Infinity, now = process.memoryUsage.rss();
    before - now > 2 ** 20;
    now = process.memoryUsage.rss()
  ) {
    before = now
    globalThis.gc!()
    await sleep(1_000)
  }
}

const functions: MarketProcess = {
  async start({ databasePath, port, modelsPath }) {
    const config = loadConfig({
      DATABASE_URL: databasePath,
      PORT: String(port),
      MODELS_PATH: modelsPath,
      DOWNLOADS_PATH: join(modelsPath, 'none'),
      FAUCET_PER_DAY: '100000000',
      RATE_LIMIT_PER_MINUTE: '1000000000',
      ALLOW_EMULATED_GPUS: 'true',
      LOG_LEVEL: 'warn',
    })
    const limits = {
      ...config.limits,
      callLimitFactor: 1_000_000,
      pendingTasksPerUserMax: 1_000_000,
      pendingInputBytesPerUserMax: 1_000_000_000,
      agentMessagesPerSecondMax: 1_000_000,
    }
    server = await startServer({ ...config, downloadsPath: null, limits })
    return { url: server.url }
  },

  async usage({ collectGarbage }) {
    if (collectGarbage) await collectAll()
    const { user, system } = process.cpuUsage()
    const { rss, heapUsed, external } = process.memoryUsage()
    return { cpuUs: user + system, residentBytes: rss, usedBytes: heapUsed + external }
  },

  async settled() {
    const counted = await server!.context.database.read((reader) =>
      reader.get<{ count: number; seq: number | null }>(
        `SELECT count(*) FILTER (WHERE kind = 'settlement') AS count, max(seq) AS seq FROM transfers WHERE seq > ?`,
        paid.seq,
      ),
    )
    paid = { count: paid.count + counted!.count, seq: counted!.seq ?? paid.seq }
    return paid.count
  },

  async startProfile() {
    inspector.connect()
    await inspector.post('Profiler.enable')
    await inspector.post('Profiler.setSamplingInterval', { interval: 200 })
    await inspector.post('Profiler.start')
  },

  async stopProfile() {
    const { profile } = await inspector.post('Profiler.stop')
    inspector.disconnect()
    return profileTable(profile as CpuProfile)
  },

  verify: async () => (await server!.context.database.read(verifyLedger)).problems,
}

answer(functions, { onEnd: async () => server?.close() })
