import { randomBytes } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import { mkdir, open, readFile, rename, rm, stat, writeFile } from 'node:fs/promises'
import { homedir } from 'node:os'
import { dirname, join, win32 } from 'node:path'
import { parseEnv } from 'node:util'
import type { Tokens, TokenStore } from '@orbyte/sdk'
import { CliError, exitCodes } from './exit-codes.ts'

export const defaultUrl = 'http://127.0.0.1:8000'

/**
 * What `orbyte login` keeps: a login for each market, by its URL, and the market of the last one. The tokens of a market are sent
 * nowhere else.
 */
export type SavedConfig = { url?: string; logins?: Record<string, Login> }
export type Login = { email?: string; tokens?: Tokens }
type Environment = Readonly<Record<string, string | undefined>>

/** What the environment says. An empty variable counts as not set. */
export type CliEnvironment = {
  configPath: string
  url: string | null
  token: string | null
  /** Where the agent on this machine is told to go. */
  agentServer: string | null
  /** NO_COLOR and FORCE_COLOR; null: neither. */
  colour: boolean | null
}
/** What the server is told, for `orbyte admin` on its machine: where its secret key is. */
export type MarketEnvironment = { secretKey: string | null; secretKeyFile: string | null; databaseUrl: string | null }

export function readEnvironment(
  environment: Environment = process.env,
  platform: string = process.platform,
): CliEnvironment {
  const value = (name: string) => environment[name] || null
  return {
    configPath: value('ORBYTE_CONFIG') ?? defaultConfigPath(environment, platform),
    url: value('ORBYTE_URL'),
    token: value('ORBYTE_TOKEN'),
    agentServer: value('ORBYTE_SERVER'),
    colour: value('NO_COLOR') ? false : value('FORCE_COLOR') ? value('FORCE_COLOR') !== '0' : null,
  }
}

/** Like the server: the environment goes before `.env` in the current folder. */
export function readMarketEnvironment(environment: Environment = process.env): MarketEnvironment {
  const file = existsSync('.env') ? parseEnv(readFileSync('.env', 'utf8')) : {}
  const value = (name: string) => environment[name] || file[name] || null
  return { secretKey: value('SECRET_KEY'), secretKeyFile: value('SECRET_KEY_FILE'), databaseUrl: value('DATABASE_URL') }
}

function defaultConfigPath(environment: Environment, platform: string): string {
  const home = environment.HOME || homedir()
  if (environment.XDG_CONFIG_HOME) return join(environment.XDG_CONFIG_HOME, 'orbyte', 'config.json')
  if (platform === 'win32') {
    const folder = environment.APPDATA || win32.join(home, 'AppData', 'Roaming')
    return win32.join(folder, 'orbyte', 'config.json')
  }
  return join(home, '.config', 'orbyte', 'config.json')
}

export function readConfig(path: string): SavedConfig {
  let text
  try {
    text = readFileSync(path, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return {}
    throw new CliError(`${path} cannot be read (${(error as Error).message}).`)
  }
  try {
    const saved: unknown = JSON.parse(text)
    if (typeof saved === 'object' && saved !== null && !Array.isArray(saved)) return saved
  } catch {
    // Said below.
  }
  throw new CliError(`${path} is not a JSON object. Correct it, or delete it and log in again.`, exitCodes.usage)
}

/** Whole or not at all, and readable by its owner only: it holds tokens. */
export async function writeConfig(path: string, config: SavedConfig): Promise<void> {
  await mkdir(dirname(path), { recursive: true, mode: 0o700 })
  const temporary = `${path}.${randomBytes(6).toString('hex')}`
  try {
    await writeFile(temporary, `${JSON.stringify(config, null, 2)}\n`, { mode: 0o600, flag: 'wx' })
    await rename(temporary, path)
  } finally {
    await rm(temporary, { force: true })
  }
}

export function savedLogin(path: string, url: string): Login {
  return readConfig(path).logins?.[url] ?? {}
}

/** Changes what is kept of a market, which is the one that commands speak to from now on. */
export async function keepLogin(path: string, url: string, change: Login): Promise<void> {
  const { logins } = readConfig(path)
  await writeConfig(path, { url, logins: { ...logins, [url]: { ...logins?.[url], ...change } } })
}

/** Tokens in the config file, shared by all `orbyte` processes of this user. */
export function configTokenStore(path: string, url: string): TokenStore {
  return {
    read: async () => savedLogin(path, url).tokens ?? null,
    write: (tokens) => keepLogin(path, url, { tokens: tokens ?? undefined }),
    exclusively: (work) => withLock(`${path}.lock`, work),
  }
}

const lockStaleMs = 90_000
const lockPollMs = 25

/** A lock file that its holder removes; one that was left behind by a crash counts no more. */
async function withLock<T>(path: string, work: () => Promise<T>): Promise<T> {
  await mkdir(dirname(path), { recursive: true, mode: 0o700 })
  while (!(await takeLock(path))) await new Promise((resolve) => setTimeout(resolve, lockPollMs))
  try {
    return await work()
  } finally {
    await rm(path, { force: true })
  }
}

async function takeLock(path: string): Promise<boolean> {
  try {
    const file = await open(path, 'wx', 0o600)
    await file.writeFile(String(process.pid))
    await file.close()
    return true
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
    await removeStaleLock(path)
    return false
  }
}

async function removeStaleLock(path: string): Promise<void> {
  try {
    const { mtimeMs } = await stat(path)
    const holder = Number(await readFile(path, 'utf8'))
    if (Date.now() - mtimeMs > lockStaleMs || (holder > 0 && !isRunning(holder))) await rm(path, { force: true })
  } catch (error) {
    // Its holder has removed it in the meantime.
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
  }
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}
