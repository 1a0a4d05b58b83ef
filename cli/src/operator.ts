import { readFile } from 'node:fs/promises'
import { resolve } from 'node:path'
import { signOperatorToken } from '@orbyte/protocol'
import { type Client, createClient } from '@orbyte/sdk'
import type { Cli } from './cli.ts'
import { readMarketEnvironment } from './cli-config.ts'
import { CliError, exitCodes } from './exit-codes.ts'

/** A client for whoever holds the market's secret key: its operator, on the market's own machine. */
export async function operatorClient(cli: Cli, secretFile: string | undefined): Promise<Client> {
  const secret = await readSecret(secretFile)
  return createClient({ url: cli.url, token: await signOperatorToken(secret, Date.now()) })
}

/** As the server finds it: SECRET_KEY, the file of SECRET_KEY_FILE, or the file beside the database. */
async function readSecret(secretFile: string | undefined): Promise<string> {
  const environment = readMarketEnvironment()
  if (secretFile === undefined && environment.secretKey) return environment.secretKey
  const path = secretFile ?? environment.secretKeyFile ?? `${databasePath(environment.databaseUrl)}.secret`
  try {
    return (await readFile(path, 'utf8')).trim()
  } catch (error) {
    const why =
      (error as NodeJS.ErrnoException).code === 'ENOENT'
        ? 'is not there'
        : `cannot be read (${(error as Error).message})`
    throw new CliError(
      `The market’s secret key ${path} ${why}. Run this in the folder of the market's database, as the user that runs the market, or say where the key is: --secret-file or SECRET_KEY.`,
      exitCodes.usage,
    )
  }
}

const databasePath = (url: string | null) => resolve((url ?? './orbyte.db').replace(/^sqlite:\/\/\//i, ''))
