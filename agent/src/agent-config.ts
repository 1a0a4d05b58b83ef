import { readFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { join, resolve } from 'node:path'
import { parseArgs, type ParseArgsConfig } from 'node:util'
import { parseOrb, TaskType } from '@orbyte/protocol'
import { type EmulatedGpu, parseEmulatedGpu } from './gpus/emulated.ts'
import { type Hours, parseHours } from './owner/hours.ts'

/** Everything that the owner of a machine may set. */
export type AgentOptions = {
  /** The market, like "http://127.0.0.1:8000". */
  readonly server: string
  /** Enrols this machine, the first time. */
  readonly token: string | null
  readonly dataPath: string
  /** What the market calls the device, where it is not registered yet. */
  readonly name: string | null
  readonly region: string | null
  /** ORB an hour, as on the wire; for devices that are not registered yet. */
  readonly pricePerHour: string | null
  /** Whether tasks may have shares of a device that is not registered yet. */
  readonly sharing: boolean
  readonly offerCpu: boolean
  /** Instead of the machine's own devices. */
  readonly emulatedGpus: readonly EmulatedGpu[]
  readonly allowFake: boolean
  /** Folders whose model files are used where they are. */
  readonly modelFolders: readonly string[]
  /** A server with the OpenAI API that the owner runs. */
  readonly openai: { readonly baseUrl: string; readonly apiKey: string | null } | null
  readonly limits: OwnerLimits
  /** How long a stopping agent lets running attempts go on. */
  readonly drainMsMax: number
  /** Multiplies how long it waits for the market and before it comes back: for trials on a market with the same TIME_SCALE. */
  readonly timeScale: number
  readonly logLevel: LogLevel
}

/** What the owner lets run; null: no limit of that kind. */
export type OwnerLimits = {
  readonly taskTypes: readonly TaskType[] | null
  readonly models: readonly string[] | null
  /** ORB an hour, as on the wire. */
  readonly minPricePerHour: string | null
  readonly hours: readonly Hours[] | null
  readonly runMsMax: number | null
}

export const noLimits: OwnerLimits = {
  taskTypes: null,
  models: null,
  minPricePerHour: null,
  hours: null,
  runMsMax: null,
}

const logLevels = ['debug', 'info', 'warn', 'error', 'silent'] as const
export type LogLevel = (typeof logLevels)[number]

export type Environment = Readonly<Record<string, string | undefined>>

/** The environment of this process. */
export function processEnvironment(): Environment {
  return process.env
}

/** What the owner wrote cannot be followed. The message says what to write instead. */
export class UsageError extends Error {}

const defaultServer = 'http://127.0.0.1:8000'

type Flag = { readonly value: string | null; readonly says: string; readonly env?: string; readonly isMany?: boolean }

/** The flags of `orbyte agent start`. */
export const agentFlags = {
  server: { value: 'URL', says: `the market (default: ORBYTE_URL, or ${defaultServer})`, env: 'ORBYTE_SERVER' },
  token: { value: 'TOKEN', says: 'agent token that enrols this machine, once', env: 'ORBYTE_AGENT_TOKEN' },
  data: { value: 'FOLDER', says: 'key, results, models and engines (default ~/.orbyte/agent)', env: 'ORBYTE_DATA' },
  name: { value: 'NAME', says: 'name of the GPU on the market', env: 'ORBYTE_NAME' },
  region: { value: 'REGION', says: 'where the machine is, like eu-west', env: 'ORBYTE_REGION' },
  price: { value: 'ORB', says: 'ORB an hour for a GPU that is new to the market', env: 'ORBYTE_PRICE' },
  sharing: { value: null, says: 'let tasks share a GPU that is new to the market' },
  cpu: { value: null, says: 'offer the CPU too' },
  emulate: { value: 'MODEL:GB[xN]', says: 'emulated GPUs instead of real ones, like "RTX 4090:24x4"', isMany: true },
  'allow-fake': { value: null, says: 'run tasks for the fake executor (development only)' },
  'model-folder': { value: 'FOLDER', says: 'use model files in it without a download', isMany: true },
  'openai-url': { value: 'URL', says: 'forward to your own OpenAI-compatible server', env: 'ORBYTE_OPENAI_URL' },
  'openai-key': { value: 'KEY', says: 'its key', env: 'ORBYTE_OPENAI_KEY' },
  'task-types': { value: 'A,B', says: `run only these: ${TaskType.options.join(', ')}` },
  models: { value: 'A,B', says: 'run only these models' },
  'min-price': { value: 'ORB', says: 'take no task for less an hour' },
  hours: { value: '22:00-07:00', says: 'take tasks only at these hours, local time' },
  'max-run': { value: '30m', says: 'take no task that may run longer' },
  'drain-limit': { value: '10m', says: 'when stopping, let tasks run on for so long (default 10m)' },
  'time-scale': { value: 'FACTOR', says: 'for trials: as the market’s TIME_SCALE (default 1)', env: 'TIME_SCALE' },
  'log-level': { value: 'LEVEL', says: `${logLevels.join(', ')} (default info)`, env: 'LOG_LEVEL' },
} as const satisfies Record<string, Flag>
type FlagName = keyof typeof agentFlags

/** One line a flag, for `--help`. */
export function agentFlagsHelp(): string {
  const rows = Object.entries<Flag>(agentFlags).map(([name, { value, says, env }]) => {
    return `  ${`--${name}${value === null ? '' : ` ${value}`}`.padEnd(30)} ${says}${env === undefined ? '' : ` [${env}]`}`
  })
  return rows.join('\n')
}

/** Reads flags, then the environment. Throws a UsageError. */
export function loadAgentOptions(args: readonly string[], environment: Environment): AgentOptions {
  const settings = readSettings(args, environment)
  const text = (name: FlagName) => settings.get(name)?.at(-1) ?? null
  const openaiUrl = text('openai-url')
  return {
    server: checked('server', text('server') ?? fromEnvironment('ORBYTE_URL', environment) ?? defaultServer, serverUrl),
    token: checked('token', text('token'), (token) => atMost(token, 200)),
    dataPath: resolve(text('data') ?? join(homedir(), '.orbyte', 'agent')),
    // Several devices of one name get a number each.
    name: checked('name', text('name'), (name) => atMost(name, 90)),
    region: checked('region', text('region'), (region) => atMost(region, 50)),
    pricePerHour: checked('price', text('price'), (price) => amount(price, 1)),
    sharing: settings.has('sharing'),
    offerCpu: settings.has('cpu'),
    emulatedGpus: (settings.get('emulate') ?? []).map((gpu) => checked('emulate', gpu, parseEmulatedGpu)),
    allowFake: settings.has('allow-fake'),
    modelFolders: (settings.get('model-folder') ?? []).map((folder) => resolve(folder)),
    openai:
      openaiUrl === null ? null : { baseUrl: checked('openai-url', openaiUrl, serverUrl), apiKey: text('openai-key') },
    limits: {
      taskTypes: checked('task-types', text('task-types'), (types) => listOf(types).map(taskType)),
      models: checked('models', text('models'), listOf),
      minPricePerHour: checked('min-price', text('min-price'), (price) => amount(price, 0)),
      hours: checked('hours', text('hours'), parseHours),
      runMsMax: checked('max-run', text('max-run'), durationMs),
    },
    drainMsMax: checked('drain-limit', text('drain-limit') ?? '10m', durationMs),
    timeScale: checked('time-scale', text('time-scale') ?? '1', timeScale),
    logLevel: checked('log-level', text('log-level') ?? 'info', logLevel),
  }
}

function readSettings(args: readonly string[], environment: Environment): Map<string, string[]> {
  const settings = new Map<string, string[]>()
  for (const [name, flag] of Object.entries<Flag>(agentFlags)) {
    const value = flag.env === undefined ? null : fromEnvironment(flag.env, environment)
    if (value !== null) settings.set(name, [value])
  }
  for (const [name, value] of Object.entries(parseFlags(args))) {
    if (value !== undefined) settings.set(name, (Array.isArray(value) ? value : [value]).map(String))
  }
  return settings
}

function parseFlags(args: readonly string[]) {
  const options: NonNullable<ParseArgsConfig['options']> = {}
  for (const [name, flag] of Object.entries<Flag>(agentFlags)) {
    options[name] = { type: flag.value === null ? 'boolean' : 'string', multiple: flag.isMany ?? false }
  }
  try {
    return parseArgs({ args: [...args], options, strict: true }).values
  } catch (error) {
    throw new UsageError(`${error instanceof Error ? error.message : String(error)}. All flags: orbyte agent help`)
  }
}

/** Every NAME may be NAME_FILE, a file with the value in it. */
function fromEnvironment(name: string, environment: Environment): string | null {
  const file = environment[`${name}_FILE`]
  const value = file ? readSecret(name, file) : environment[name]
  return value?.trim() ? value.trim() : null
}

function readSecret(name: string, file: string): string {
  try {
    return readFileSync(file, 'utf8')
  } catch (error) {
    throw new UsageError(`${name}_FILE cannot be read: ${error instanceof Error ? error.message : String(error)}`)
  }
}

function checked<Value>(flag: FlagName, text: string, parse: (text: string) => Value): Value
function checked<Value>(flag: FlagName, text: string | null, parse: (text: string) => Value): Value | null
function checked<Value>(flag: FlagName, text: string | null, parse: (text: string) => Value): Value | null {
  if (text === null) return null
  try {
    return parse(text)
  } catch (error) {
    throw new UsageError(`--${flag}: ${error instanceof Error ? error.message : String(error)}`)
  }
}

function serverUrl(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : null
  if (url === null || !/^https?:$/.test(url.protocol)) throw new Error(`"${text}" is no address like http://host:8000`)
  return url.href.replace(/\/+$/, '')
}

function atMost(text: string, charactersMax: number): string {
  if (text.length > charactersMax) throw new Error(`it is longer than ${charactersMax} characters`)
  return text
}

function amount(text: string, microsMin: number): string {
  if (parseOrb(text) < microsMin) throw new Error(`${text} ORB is too little`)
  return text
}

function listOf(text: string): string[] {
  const list = text.split(',').map((part) => part.trim())
  if (list.some((part) => part === '')) throw new Error(`"${text}" is no list: write names with commas between them`)
  return list
}

function taskType(text: string): TaskType {
  const parsed = TaskType.safeParse(text)
  if (parsed.success) return parsed.data
  throw new Error(`"${text}" is no task type: ${TaskType.options.join(', ')}`)
}

function durationMs(text: string): number {
  const [, count, unit] = /^(\d+)(s|m|h)$/.exec(text) ?? []
  const unitMs = { s: 1_000, m: 60_000, h: 3_600_000 }[unit ?? '']
  if (unitMs === undefined || Number(count) === 0) throw new Error(`"${text}" is no time like 90s, 30m or 12h`)
  return Number(count) * unitMs
}

function timeScale(text: string): number {
  const factor = Number(text)
  if (!(factor >= 0.01 && factor <= 10)) throw new Error(`"${text}" is no number from 0.01 to 10`)
  return factor
}

function logLevel(text: string): LogLevel {
  const level = logLevels.find((candidate) => candidate === text)
  if (level === undefined) throw new Error(`"${text}" is no log level: ${logLevels.join(', ')}`)
  return level
}
