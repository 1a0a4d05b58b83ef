import { existsSync } from 'node:fs'
import { basename, extname, relative, resolve } from 'node:path'
import { formatOrb, ProblemError } from '@orbyte/protocol'
import { loadConfig, systemEnvironment } from './config.ts'
import { startServer } from './server.ts'
import { version } from './version.ts'

/**
 * Runs a market until it is told to stop (SIGTERM, SIGINT). `given` goes before the environment, which goes before `.env` in the
 * working directory.
 */
export async function main(given: Record<string, string | undefined> = {}): Promise<void> {
  try {
    await serve(given)
  } catch (error) {
    process.stderr.write(`orbyte: ${error instanceof Error ? error.message : String(error)}\n`)
    if (!(error instanceof Error) || error instanceof TypeError || error instanceof ProblemError) throw error
    process.exit(1)
  }
}

async function serve(given: Record<string, string | undefined>) {
  // What people wrote, and what was made of it, is nobody else's on this machine.
  process.umask(0o077)
  const config = loadConfig(systemEnvironment(given))
  const server = await startServer(config)
  const url = config.publicUrl ?? server.url
  const orbyte = programName()
  process.stdout.write(`Orbyte ${version}: a market at ${url}, kept in ${config.databasePath}

${config.webPath === null ? '' : `  Web app            ${url}\n`}  API documentation  ${url}/api/docs
  Is it up?          ${url}/api/health

  A first agent and a first task, from this folder:
    export ORBYTE_URL=${url}
    ${orbyte} register bob@example.org      # an account; its faucet gives ${formatOrb(config.faucetMicrosPerDay)} ORB a day
    ${orbyte} tokens create first           # a token that enrols a machine
    ${orbyte} agent start --cpu --token …   # offer this machine; leave --cpu away where there is a GPU
    ${orbyte} wallet deposit 10
    ${orbyte} run text "Once upon a time"

  An administrator: ${orbyte} admin create you@example.org${secretFlag(config.databasePath)}
  Stop with Ctrl-C.
`)
  const stop = (signal: NodeJS.Signals) => {
    process.off('SIGTERM', stop).off('SIGINT', stop)
    process.stdout.write(`${signal}: stopping. What was acknowledged is kept; agents go on and come back.\n`)
    server.close().then(
      () => process.exit(0),
      (error: unknown) => {
        process.stderr.write(`orbyte: could not stop in order: ${String(error)}\n`)
        process.exit(1)
      },
    )
  }
  process.on('SIGTERM', stop).on('SIGINT', stop)
}

/** Where the secret key is, for commands that do not run in the folder of the database. */
function secretFlag(databasePath: string): string {
  const path = `${databasePath}.secret`
  const isFoundAnyway = resolve(path) === resolve('orbyte.db.secret') || !existsSync(path)
  return isFoundAnyway ? '' : ` --secret-file ${shorter(path)}`
}

/** How this program was called, so that what is printed can be pasted. */
function programName(): string {
  const path = shorter(process.argv[1] ?? 'orbyte')
  // Installed, it is on the PATH by its own name.
  if (extname(path) === '') return basename(path)
  return path.endsWith('.ts') ? `npx tsx ${path}` : `node ${path}`
}

function shorter(path: string): string {
  const fromHere = relative('', path)
  return fromHere.length < path.length ? fromHere : path
}
