import { OrbyteError, type OrbyteErrorCode } from '@orbyte/sdk'

/** What a script can tell from how `orbyte` ended. Shown by `orbyte --help`. */
export const exitCodes = {
  ok: 0,
  failed: 1,
  usage: 2,
  notLoggedIn: 3,
  insufficientFunds: 4,
  notFound: 5,
  unreachable: 6,
  interrupted: 130,
} as const
export type ExitCode = (typeof exitCodes)[keyof typeof exitCodes]

export const exitCodeMeanings: Readonly<Record<keyof typeof exitCodes, string>> = {
  ok: 'it worked',
  failed: 'the task failed, or the market refused',
  usage: 'wrong arguments or an invalid request',
  notLoggedIn: 'not logged in, or wrong credentials',
  insufficientFunds: 'the balance is too small',
  notFound: 'there is no such thing',
  unreachable: 'the market cannot be reached, or asks to come back later',
  interrupted: 'interrupted with Ctrl-C',
}

/** A failure of the command itself, in a sentence that a person can act on; empty: it has been said already. */
export class CliError extends Error {
  readonly exitCode: ExitCode
  constructor(message: string, exitCode: ExitCode = exitCodes.failed) {
    super(message)
    this.name = 'CliError'
    this.exitCode = exitCode
  }
}

/** A file that a command was told to read. */
export function unreadable(path: string, error: unknown): CliError {
  const { code, message } = error as NodeJS.ErrnoException
  return new CliError(
    code === 'ENOENT' ? `There is no ${path} here.` : `${path} cannot be read: ${message}`,
    exitCodes.usage,
  )
}

const exitCodesByError: Partial<Record<OrbyteErrorCode, ExitCode>> = {
  insufficient_funds: exitCodes.insufficientFunds,
  unreachable: exitCodes.unreachable,
  unavailable: exitCodes.unreachable,
  rate_limited: exitCodes.unreachable,
  not_a_market: exitCodes.unreachable,
  market_paused: exitCodes.unreachable,
  invalid_request: exitCodes.usage,
  price_required: exitCodes.usage,
  body_too_large: exitCodes.usage,
}

export function exitCodeOf(error: unknown): ExitCode {
  if (error instanceof CliError) return error.exitCode
  if (!(error instanceof OrbyteError)) return exitCodes.failed
  const known = exitCodesByError[error.code]
  if (known !== undefined) return known
  if (error.status === 401) return exitCodes.notLoggedIn
  if (error.status === 404 || error.status === 410) return exitCodes.notFound
  return exitCodes.failed
}
