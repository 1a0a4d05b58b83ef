import { randomBytes } from 'node:crypto'
import { chmodSync, existsSync, readFileSync, writeFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { type Micros, NonNegativeAmount } from '@orbyte/protocol'

/** Everything that an operator may set. Names in the environment are given beside each field. */
export type Config = {
  /** PORT, default 8000; 0 picks a free one. */
  port: number
  /** HOST, default 127.0.0.1: other machines reach the market when this is 0.0.0.0. */
  host: string
  /** DATABASE_URL: `sqlite:///./orbyte.db` or a plain path. Default ./orbyte.db; `:memory:` keeps nothing. */
  databasePath: string
  /** SECRET_KEY or SECRET_KEY_FILE; generated and kept beside the database otherwise. Signs access tokens. */
  secretKey: string
  /** LEDGER_KEY or LEDGER_KEY_FILE; generated and kept beside the database otherwise. Its Ed25519 key signs the ledger. */
  ledgerKey: string
  /** ACCESS_TOKEN_EXPIRE_MINUTES, default 15. */
  accessTokenMs: number
  /** 30 days. */
  refreshTokenMs: number
  /** FEE_PERCENT of what a task costs, default 0; at most two decimals. */
  feeBasisPoints: number
  /** ALLOW_EMULATED_GPUS, default false: admits emulated GPUs and the fake executor. */
  allowEmulatedGpus: boolean
  /** FAUCET_PER_DAY in ORB, default 1000. */
  faucetMicrosPerDay: Micros
  /**
   * AUDIT_BUDGET_PER_DAY in ORB, default 10: the most that the market spends in 24 hours on checks of its own (canaries and
   * re-executions). 0: there are none.
   */
  auditMicrosPerDay: Micros
  /**
   * AUDIT_SHARE_PERCENT, default 2: the least share of a trusted GPU's tasks after which it is checked. One that is new, or was
   * caught, is checked after each of its tasks.
   */
  auditShare: number
  /** MODELS_PATH: folder of the catalogue (catalogue.json) and its bundled files. */
  modelsPath: string
  /** DOWNLOADS_PATH: folder with the agent's npm tarball, if there is one. */
  downloadsPath: string | null
  /** WEB_PATH: folder of the built web app, if there is one. */
  webPath: string | null
  /** LOG_LEVEL: debug, info, warn, error or silent. Default info. */
  logLevel: 'debug' | 'info' | 'warn' | 'error' | 'silent'
  /** PUBLIC_URL, where others reach this server; default http://HOST:PORT. */
  publicUrl: string | null
  /**
   * TRUST_PROXY, default 0: how many proxies of yours stand before this server, each of which adds the address that it saw to
   * X-Forwarded-For; `true` is one. Limits count by that address.
   */
  trustedProxies: number
  limits: Limits
  /**
   * TIME_SCALE, default 1: heartbeats, deadlines, cool-downs and all other times of this kind are multiplied by it. For trials
   * only: with 0.1 an agent counts as dead after 9 s of silence. Give the agents the same.
   */
  timing: Timing
}

export type Limits = {
  pendingTasksPerUserMax: number
  /** Of the inputs of a user's waiting tasks together. */
  pendingInputBytesPerUserMax: number
  attemptsPerTaskMax: number
  outputBytesMax: number
  filesPerTaskMax: number
  logLinesPerTaskMax: number
  /** Of an attempt's log, in all: what comes after it is not kept. */
  logBytesPerAttemptMax: number
  /** Pieces of output and log and words of progress of one attempt: each is an event, however short. */
  piecesPerAttemptMax: number
  /** RATE_LIMIT_PER_MINUTE of calls by one address or user; 0: none. */
  callsPerMinuteMax: number
  /** Factor on every endpoint's own limit. Not from the environment: tests and benches raise it. */
  callLimitFactor: number
  /** Event streams and downloads of what tasks have produced, open at a time. */
  streamsPerUserMax: number
  gpusPerOwnerMax: number
  agentsPerOwnerMax: number
  /** How often one agent may connect within `flapMs`. */
  connectionsPerAgentMax: number
  /** How many messages of one agent are read a second, after a burst of ten times as many; 0: as many as come. */
  agentMessagesPerSecondMax: number
  /** An agent that is found wrong this often within `auditMemoryMs` is suspended. */
  auditsFailedMax: number
  /**
   * KEPT_ROOMS_MAX, default 4: for at most so many tasks at a time that want several GPUs, or much of a shared one, the machine on
   * which they can start soonest is kept free of tasks that would delay them. 0: for none, and such tasks may wait for ever.
   */
  keptRoomsMax: number
}

/** All in milliseconds. */
export type Timing = {
  acceptMs: number
  /** How long an agent may fetch and load before an attempt is ready. */
  prepareMs: number
  /** How long an attempt that streams may run before the first of its output. */
  firstOutputMs: number
  /** How long a file may take once it has begun to arrive, and a result once its agent has said that it has one. */
  uploadMs: number
  heartbeatMs: number
  suspectMs: number
  unknownMs: number
  deadMs: number
  /** An attempt's deadline is this much before its agent counts as dead. */
  deadlineMarginMs: number
  coolDownMs: number
  coolDownMaxMs: number
  /** Over how long an agent's connections are counted. */
  flapMs: number
  /** How often the market looks for GPUs that are due for a check. */
  auditEveryMs: number
  /** Between two checks of one GPU. */
  auditGapMs: number
  /** How long a check waits for its GPU. */
  auditWaitMs: number
  /** When a check is given up that nobody has decided. */
  auditMs: number
  /** How long it is remembered against an agent that it was found wrong. */
  auditMemoryMs: number
  /** Half of what a renter has used of GPUs is forgotten after this long. */
  fairShareHalfLifeMs: number
  /** What a GPU counts at least for its renter, from the moment that it is asked. */
  fairShareQuantumMs: number
  /** A step of priority is worth this much waiting. */
  agePerPriorityMs: number
  /** So long a task may be passed over for others that find their model loaded on the GPU that is free. */
  warmPatienceMs: number
  /**
   * KEEP_ROOM_AFTER_SECONDS, default 30: how long such a task waits before a machine is kept for it. Longer leaves fewer GPUs idle,
   * shorter starts large tasks earlier.
   */
  keepRoomAfterMs: number
  reviewMs: number
  disputeMs: number
  idempotencyMs: number
  resultsKeptMs: number
  housekeepingMs: number
}

export const defaultLimits: Limits = {
  pendingTasksPerUserMax: 2_000,
  pendingInputBytesPerUserMax: 64_000_000,
  attemptsPerTaskMax: 3,
  outputBytesMax: 10_000_000,
  filesPerTaskMax: 64,
  logLinesPerTaskMax: 10_000,
  logBytesPerAttemptMax: 10_000_000,
  piecesPerAttemptMax: 200_000,
  callsPerMinuteMax: 6_000,
  callLimitFactor: 1,
  streamsPerUserMax: 50,
  gpusPerOwnerMax: 1_000,
  agentsPerOwnerMax: 1_000,
  connectionsPerAgentMax: 12,
  agentMessagesPerSecondMax: 2_000,
  auditsFailedMax: 3,
  keptRoomsMax: 4,
}

const hourMs = 3_600_000
export const defaultTiming: Timing = {
  acceptMs: 5_000,
  prepareMs: hourMs,
  firstOutputMs: 120_000,
  uploadMs: 600_000,
  heartbeatMs: 5_000,
  suspectMs: 15_000,
  unknownMs: 30_000,
  deadMs: 90_000,
  deadlineMarginMs: 10_000,
  coolDownMs: 30_000,
  coolDownMaxMs: hourMs,
  flapMs: 60_000,
  auditEveryMs: 5_000,
  auditGapMs: 600_000,
  auditWaitMs: 20_000,
  auditMs: hourMs,
  auditMemoryMs: 30 * 24 * hourMs,
  fairShareHalfLifeMs: hourMs,
  fairShareQuantumMs: 10_000,
  agePerPriorityMs: 10 * 60_000,
  warmPatienceMs: 15_000,
  keepRoomAfterMs: 30_000,
  reviewMs: 24 * hourMs,
  disputeMs: 7 * 24 * hourMs,
  idempotencyMs: 24 * hourMs,
  resultsKeptMs: 30 * 24 * hourMs,
  housekeepingMs: 60_000,
}

type Environment = Readonly<Record<string, string | undefined>>

/** The process's environment, with what `.env` in the working directory adds to it, and `given` before both. */
export function systemEnvironment(given: Environment = {}): Environment {
  if (existsSync('.env')) process.loadEnvFile('.env')
  return { ...process.env, ...given }
}

/** Reads the environment (and `X_FILE` for any `X`). Throws a sentence that names the variable on anything unusable. */
export function loadConfig(environment: Environment): Config {
  const text = (name: string) => environment[name] ?? fromFile(environment[`${name}_FILE`])
  const databasePath = databasePathOf(text('DATABASE_URL') ?? './orbyte.db')
  return {
    port: integer(text('PORT'), { name: 'PORT', lowest: 0, highest: 65_535, fallback: 8_000 }),
    host: text('HOST') ?? '127.0.0.1',
    databasePath,
    secretKey: secret(text('SECRET_KEY'), { name: 'SECRET_KEY', databasePath, suffix: 'secret' }),
    ledgerKey: secret(text('LEDGER_KEY'), { name: 'LEDGER_KEY', databasePath, suffix: 'ledger-key' }),
    accessTokenMs:
      integer(text('ACCESS_TOKEN_EXPIRE_MINUTES'), {
        name: 'ACCESS_TOKEN_EXPIRE_MINUTES',
        lowest: 1,
        highest: 525_600,
        fallback: 15,
      }) * 60_000,
    refreshTokenMs: 30 * 24 * hourMs,
    feeBasisPoints: percent(text('FEE_PERCENT') ?? '0', 'FEE_PERCENT'),
    allowEmulatedGpus: boolean(text('ALLOW_EMULATED_GPUS'), 'ALLOW_EMULATED_GPUS'),
    faucetMicrosPerDay: orb(text('FAUCET_PER_DAY') ?? '1000', 'FAUCET_PER_DAY'),
    auditMicrosPerDay: orb(text('AUDIT_BUDGET_PER_DAY') ?? '10', 'AUDIT_BUDGET_PER_DAY'),
    auditShare: percent(text('AUDIT_SHARE_PERCENT') ?? '2', 'AUDIT_SHARE_PERCENT') / 10_000,
    modelsPath: folder(text('MODELS_PATH'), ['../models', '../../models']) ?? resolve('./models'),
    downloadsPath: folder(text('DOWNLOADS_PATH'), ['./downloads', '../../dist/downloads']),
    webPath: folder(text('WEB_PATH'), ['./web', '../../dist/web']),
    logLevel: logLevel(text('LOG_LEVEL') ?? 'info'),
    publicUrl: text('PUBLIC_URL')?.replace(/\/$/, '') ?? null,
    trustedProxies: proxies(text('TRUST_PROXY')),
    limits: {
      ...defaultLimits,
      callsPerMinuteMax: integer(text('RATE_LIMIT_PER_MINUTE'), {
        name: 'RATE_LIMIT_PER_MINUTE',
        lowest: 0,
        highest: 1e9,
        fallback: defaultLimits.callsPerMinuteMax,
      }),
      keptRoomsMax: integer(text('KEPT_ROOMS_MAX'), {
        name: 'KEPT_ROOMS_MAX',
        lowest: 0,
        highest: 1_000,
        fallback: defaultLimits.keptRoomsMax,
      }),
    },
    timing: scaledTiming(
      { ...defaultTiming, keepRoomAfterMs: keepRoomAfterMs(text) },
      timeScale(text('TIME_SCALE') ?? '1'),
    ),
  }
}

function keepRoomAfterMs(text: (name: string) => string | undefined): number {
  const name = 'KEEP_ROOM_AFTER_SECONDS'
  const fallback = defaultTiming.keepRoomAfterMs / 1_000
  return integer(text(name), { name, lowest: 0, highest: 86_400, fallback }) * 1_000
}

/** All times by the same factor, so that what is shorter than what stays so. */
function scaledTiming(timing: Timing, factor: number): Timing {
  const scaled = Object.entries(timing).map(([name, ms]) => [name, Math.max(1, Math.round(ms * factor))])
  return Object.fromEntries(scaled) as Timing
}

/** The folder that was given, or the first of those that exist beside this program (built, or from its source). */
function folder(given: string | undefined, beside: string[]): string | null {
  if (given !== undefined) return resolve(given)
  return beside.map((path) => fileURLToPath(new URL(path, import.meta.url))).find((path) => existsSync(path)) ?? null
}

/** `sqlite:///./orbyte.db` (relative), `sqlite:////data/orbyte.db` (absolute), or a plain path. */
export function databasePathOf(url: string): string {
  if (url === ':memory:' || url === 'sqlite:///:memory:' || url === 'sqlite://') return ':memory:'
  const other = /^([a-z][a-z0-9+.-]+):\/\//i.exec(url)
  if (other && other[1]!.toLowerCase() !== 'sqlite')
    throw new Error(`DATABASE_URL: this version stores the market in SQLite only, not in ${other[1]}`)
  return resolve(url.replace(/^sqlite:\/\/\//i, ''))
}

type SecretPlace = { name: string; databasePath: string; suffix: string }
function secret(given: string | undefined, { name, databasePath, suffix }: SecretPlace): string {
  if (given !== undefined) {
    if (given.length < 16) throw new Error(`${name}: use at least 16 characters, or leave it out to have one generated`)
    return given
  }
  if (databasePath === ':memory:') return randomBytes(32).toString('base64url')
  return secretFromFile(`${databasePath}.${suffix}`)
}

/** Reads the secret at `path`; makes it first, readable by its owner only, if it is not there. */
export function secretFromFile(path: string): string {
  if (!existsSync(path)) writeFileSync(path, `${randomBytes(32).toString('base64url')}\n`, { mode: 0o600, flag: 'wx' })
  chmodSync(path, 0o600)
  return readFileSync(path, 'utf8').trim()
}

function fromFile(path: string | undefined): string | undefined {
  return path === undefined ? undefined : readFileSync(path, 'utf8').trim()
}

type Range = { name: string; lowest: number; highest: number; fallback: number }
function integer(text: string | undefined, range: Range): number {
  if (text === undefined || text.trim() === '') return range.fallback
  const value = Number(text)
  if (!Number.isInteger(value) || value < range.lowest || value > range.highest)
    throw new Error(`${range.name}: give a whole number from ${range.lowest} to ${range.highest}, not "${text}"`)
  return value
}

function timeScale(text: string): number {
  const factor = Number(text)
  if (!(factor >= 0.01 && factor <= 10)) throw new Error(`TIME_SCALE: give a number from 0.01 to 10, not "${text}"`)
  return factor
}

function boolean(text: string | undefined, name: string): boolean {
  if (text === undefined || ['', '0', 'false', 'no', 'off'].includes(text.toLowerCase())) return false
  if (['1', 'true', 'yes', 'on'].includes(text.toLowerCase())) return true
  throw new Error(`${name}: give true or false, not "${text}"`)
}

function proxies(text: string | undefined): number {
  if (text !== undefined && /^\d$/.test(text)) return Number(text)
  return boolean(text, 'TRUST_PROXY') ? 1 : 0
}

/** In hundredths of a percent. */
function percent(text: string, name: string): number {
  const points = Math.round(Number(text) * 100)
  if (!/^\d+(\.\d{1,2})?$/.test(text) || points > 10_000)
    throw new Error(`${name}: give a percentage from 0 to 100 with at most two decimals, not "${text}"`)
  return points
}

function orb(text: string, name: string): Micros {
  const amount = NonNegativeAmount.safeParse(text)
  if (!amount.success) throw new Error(`${name}: give an amount in ORB that is not negative, not "${text}"`)
  return amount.data
}

function logLevel(text: string): Config['logLevel'] {
  const levels = ['debug', 'info', 'warn', 'error', 'silent'] as const
  const found = levels.find((level) => level === text)
  if (!found) throw new Error(`LOG_LEVEL: one of ${levels.join(', ')}, not "${text}"`)
  return found
}
