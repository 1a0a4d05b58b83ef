import { type Client, createClient, OrbyteError, type WebSocketConstructor } from '@orbyte/sdk'
import { WebSocket } from 'ws'
import { type CliEnvironment, configTokenStore, defaultUrl, readConfig, readEnvironment } from './cli-config.ts'
import { CliError, exitCodeOf, exitCodes } from './exit-codes.ts'
import { type Column, table } from './table.ts'
import { createTerminal, type Terminal } from './terminal.ts'

export type GlobalOptions = { url?: string; json?: boolean; color?: boolean }

/** What every command works with. Made once by `program.ts`; the options are known when a command runs. */
export type Cli = {
  readonly terminal: Terminal
  readonly environment: CliEnvironment
  readonly url: string
  readonly json: boolean
  /** For the market at `url`, as whoever is logged in there. */
  readonly client: Client
  /** The result of a command: `document` for programs, `text` for people. */
  show(document: unknown, text: () => string): void
  /** A list, or what to do next where it is empty. `next_cursor` says that there is more. */
  showList<T>(
    page: { items: readonly T[]; next_cursor?: string | null },
    list: { columns: readonly Column<T>[]; empty: string },
  ): void
}

export function createCli(streams: NodeJS.Process, optionsOf: () => GlobalOptions): Cli {
  const environment = readEnvironment()
  let client: Client | undefined
  const cli: Cli = {
    environment,
    get terminal() {
      return createTerminal(streams as never, { colour: optionsOf().color === false ? false : environment.colour })
    },
    get url() {
      return urlOf(optionsOf().url ?? environment.url ?? readConfig(environment.configPath).url ?? defaultUrl)
    },
    get json() {
      return optionsOf().json ?? false
    },
    get client() {
      client ??= createClient({
        url: cli.url,
        webSocket: WebSocket as WebSocketConstructor,
        ...(environment.token
          ? { token: environment.token }
          : { tokenStore: configTokenStore(environment.configPath, cli.url) }),
      })
      return client
    },
    show(document, text) {
      cli.terminal.print(cli.json ? JSON.stringify(document, null, 2) : text())
    },
    showList(page, { columns, empty }) {
      if (cli.json) return cli.show(page, () => '')
      if (page.items.length === 0) return cli.terminal.say(empty)
      cli.terminal.print(table(page.items, columns, cli.terminal.tableStyle))
      if (page.next_cursor) cli.terminal.say(cli.terminal.tint('dim', 'There are more: --limit or --all shows them.'))
    },
  }
  return cli
}

function urlOf(text: string): string {
  const url = URL.parse?.(text) ?? (URL.canParse(text) ? new URL(text) : null)
  if (url === null || !/^https?:$/.test(url.protocol))
    throw new CliError(`"${text}" is not the URL of a market. It looks like ${defaultUrl}.`, exitCodes.usage)
  return text.replace(/\/+$/, '')
}

/** Says what went wrong and what to do, and gives the exit code for it. */
export function reportFailure(cli: Cli, error: unknown): number {
  const exitCode = exitCodeOf(error)
  if (error instanceof CliError && error.message === '') return exitCode
  if (!(error instanceof OrbyteError) && !(error instanceof CliError)) {
    cli.terminal.say(
      `orbyte: this is a fault of the command itself. Please report it:\n${(error as Error).stack ?? error}`,
    )
    return exitCode
  }
  if (cli.json) {
    const { message, code, detail, status, errors, details, request_id } = error as Partial<OrbyteError>
    const document = {
      code: code ?? 'failed',
      detail: detail ?? message,
      status,
      errors,
      details,
      request_id,
      exit_code: exitCode,
    }
    cli.terminal.say(JSON.stringify(document))
    return exitCode
  }
  const [first, ...rest] = linesOf(cli, error)
  cli.terminal.say([`${cli.terminal.tint('red', 'error:')} ${first}`, ...rest].join('\n'))
  return exitCode
}

function linesOf(cli: Cli, error: OrbyteError | CliError): string[] {
  if (error instanceof CliError) return error.message.split('\n')
  const { terminal, environment, url } = cli
  const fields = error.errors.length > 1 ? error.errors.map(({ field, message }) => `  ${field}: ${message}`) : []
  const where = error.request_id ? [terminal.tint('dim', `(${error.code}, request ${error.request_id} at ${url})`)] : []
  const { detail } = error
  switch (error.code) {
    case 'unauthenticated':
    case 'token_expired':
      return environment.token
        ? [`The market at ${url} does not accept ORBYTE_TOKEN. Make a new key with: orbyte keys create NAME`]
        : [`You are not logged in at ${url}. Log in with: orbyte login (or make an account: orbyte register)`]
    case 'insufficient_funds':
      return [detail, ...where, 'See your balance with: orbyte wallet · get mock money with: orbyte wallet deposit 100']
    case 'no_gpu_fits':
      return [detail, ...where, 'To wait until there is one: --wait · what there is: orbyte gpus list']
    case 'price_required':
      return [detail, ...where, 'Say what you would pay an hour: --max-price 0.50']
    case 'unreachable':
    case 'not_a_market':
      return [`${detail} (${url})`, 'Another market: --url or ORBYTE_URL · one of your own: orbyte serve']
    default:
      return [detail, ...fields, ...where]
  }
}
