import { Command, CommanderError, Help, type Option } from 'commander'
import { addAccountCommands } from './commands/account-commands.ts'
import { addAdminCommands } from './commands/admin-commands.ts'
import { addAgentCommands } from './commands/agent-commands.ts'
import { addBackupCommands } from './commands/backup-commands.ts'
import { addCredentialCommands } from './commands/credential-commands.ts'
import { addGpuCommands } from './commands/gpu-commands.ts'
import { addLedgerCommands } from './commands/ledger-commands.ts'
import { addModelCommands } from './commands/model-commands.ts'
import { addOwnAccountCommands } from './commands/own-account-commands.ts'
import { addPaymentCommands } from './commands/payment-commands.ts'
import { addRunCommands } from './commands/run-commands.ts'
import { addServeCommands } from './commands/serve-commands.ts'
import { addTaskCommands } from './commands/task-commands.ts'
import { addWalletCommands } from './commands/wallet-commands.ts'
import { type Cli, createCli, type GlobalOptions, reportFailure } from './cli.ts'
import { defaultUrl } from './cli-config.ts'
import { exitCodeMeanings, exitCodes } from './exit-codes.ts'
import manifest from '../package.json' with { type: 'json' }

/** Runs one command line and resolves with its exit code. A command that lasts (`serve`, `agent start`) resolves when it is up. */
export async function runCli(args: readonly string[], streams: NodeJS.Process): Promise<number> {
  const program = new Command('orbyte')
  const cli = createCli(streams, () => program.opts<GlobalOptions>())
  describe(program)
  addCommands(program, cli)
  try {
    await program.parseAsync(args, { from: 'user' })
    return exitCodes.ok
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? exitCodes.ok : exitCodes.usage
    return reportFailure(cli, error)
  }
}

const globalOptions = Object.assign(new Help(), { showGlobalOptions: true })
const isForEveryCommand = ({ long }: Option) => long !== '--version'

function describe(program: Command) {
  program
    .description('Orbyte: an open market for GPU time. Rent a GPU by the millisecond, or offer yours.')
    .version(manifest.version, '-V, --version', 'show the version')
    .option('--url <url>', `the market (ORBYTE_URL, or where you logged in, or ${defaultUrl})`)
    .option('--json', 'one JSON document instead of text; streams as JSON lines')
    .option('--no-color', 'no colours (also NO_COLOR)')
    .configureHelp({
      showGlobalOptions: true,
      visibleGlobalOptions: (command) => globalOptions.visibleGlobalOptions(command).filter(isForEveryCommand),
    })
    .exitOverride()
    .showHelpAfterError('(--help shows what there is)')
    .addHelpText('after', footer())
}

function footer(): string {
  const codes = Object.entries(exitCodes).map(
    ([name, code]) => `  ${String(code).padEnd(5)}${exitCodeMeanings[name as keyof typeof exitCodes]}`,
  )
  return `
Examples:
  $ orbyte register alice@example.org
  $ orbyte wallet deposit 100
  $ orbyte run text "Once upon a time"
  $ orbyte run image "a red circle" -o circle.png
  $ orbyte tokens create "gaming PC"      then, on that machine:
  $ orbyte agent start --token TOKEN
  $ orbyte serve                          a market of your own

Environment:
  ORBYTE_URL      the market
  ORBYTE_TOKEN    an API key, instead of a login
  ORBYTE_CONFIG   the file that keeps the login (~/.config/orbyte/config.json)
  NO_COLOR        no colours

Exit codes:
${codes.join('\n')}`
}

function addCommands(program: Command, cli: Cli) {
  program.commandsGroup('Rent:')
  addRunCommands(program, cli)
  addTaskCommands(program, cli)
  addModelCommands(program, cli)
  program.commandsGroup('Offer:')
  addAgentCommands(program, cli)
  addGpuCommands(program, cli)
  program.commandsGroup('Account and money:')
  addAccountCommands(program, cli)
  addOwnAccountCommands(program, cli)
  addWalletCommands(program, cli)
  addPaymentCommands(program, cli)
  addCredentialCommands(program, cli)
  program.commandsGroup('Run a market:')
  addServeCommands(program)
  addAdminCommands(program, cli)
  addLedgerCommands(program, cli)
  addBackupCommands(program, cli)
}
