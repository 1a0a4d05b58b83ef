import type { Command } from 'commander'
import { examples } from '../arguments.ts'
import type { Cli } from '../cli.ts'
import { CliError, exitCodes } from '../exit-codes.ts'
import { localTime } from '../format.ts'
import { readPassword, readStdin } from '../prompt.ts'

type Changes = { name?: string; email?: string; passwordStdin?: boolean }

/** What people do with their own account once they have one. */
export function addOwnAccountCommands(program: Command, cli: Cli) {
  const account = program
    .command('account')
    .summary('your password, sessions and data')
    .description('Your account: its password and name, where you are logged in, all that is stored about you.')
  examples(account, [
    'account password',
    'account set --name Alice',
    'account sessions',
    'account end-session sess_01k…',
    'account export > account.json',
    'account close',
  ])
  addIdentityCommands(account, cli)
  addSessionCommands(account, cli)
  addDataCommands(account, cli)
}

function addIdentityCommands(account: Command, cli: Cli) {
  account
    .command('password')
    .summary('change your password; all your other sessions end')
    .option('--password-stdin', 'read two lines from standard input: the password you have, and the new one')
    .action(async ({ passwordStdin }: { passwordStdin?: boolean }) => {
      const { current, next } = passwordStdin ? await twoLines(cli) : await askBoth(cli)
      const done = await cli.client.auth.changePassword({ current_password: current, new_password: next })
      cli.show(done, () => 'Your password is changed, and your other sessions have ended.')
    })
  account
    .command('set')
    .summary('change your name or email address')
    .option('--name <name>', 'how others see you')
    .option('--email <email>', 'what you log in with; your password is asked for')
    .option('--password-stdin', 'read the password from standard input')
    .action(async ({ name, email, passwordStdin }: Changes) => {
      if (name === undefined && email === undefined)
        throw new CliError('Say what to change: --name or --email.', exitCodes.usage)
      const password = email === undefined ? undefined : await readPassword(cli.terminal, { passwordStdin })
      const user = await cli.client.auth.updateMe({ name, email, current_password: password })
      cli.show(user, () => `You are ${user.name ?? 'without a name'}, ${user.email}.`)
    })
}

async function askBoth(cli: Cli) {
  const current = await readPassword(cli.terminal, { question: 'Your password now: ' })
  const next = await readPassword(cli.terminal, { twice: true, question: 'The new one (at least 10 characters): ' })
  return { current, next }
}

async function twoLines(cli: Cli) {
  const [current, next] = (await readStdin(cli.terminal)).split(/\r?\n/)
  if (!current || !next)
    throw new CliError('Standard input must hold two lines: the password you have, and the new one.', exitCodes.usage)
  return { current, next }
}

function addSessionCommands(account: Command, cli: Cli) {
  account
    .command('sessions')
    .summary('where you are logged in')
    .action(async () =>
      cli.showList(await cli.client.auth.sessions(), {
        empty: 'You are logged in nowhere: this command works with an API key.',
        columns: [
          { title: 'id', value: ({ id }) => id },
          { title: 'program', value: ({ user_agent }) => user_agent, shrinks: true },
          { title: 'since', value: ({ created_at }) => localTime(created_at) },
          { title: 'last used', value: ({ last_used_at }) => localTime(last_used_at) },
          { title: 'here', value: ({ current }) => (current ? 'yes' : null) },
        ],
      }),
    )
  account
    .command('end-session')
    .summary('log a session out, wherever it is')
    .argument('<session_id>')
    .action(async (id: string) =>
      cli.show(await cli.client.auth.revokeSession({ session_id: id }), () => `Ended ${id}.`),
    )
}

function addDataCommands(account: Command, cli: Cli) {
  account
    .command('export')
    .summary('everything that is stored about you, as one JSON document')
    .action(async () => cli.terminal.print(JSON.stringify(await cli.client.auth.export(), null, 2)))
  account
    .command('close')
    .summary('close your account for good; withdraw your balance first')
    .option('--password-stdin', 'read the password from standard input')
    .action(async (options: { passwordStdin?: boolean }) => {
      const question = 'Your password, to close the account for good: '
      const password = await readPassword(cli.terminal, { ...options, question })
      const done = await cli.client.auth.close({ current_password: password })
      cli.show(done, () => 'Your account is closed. The ledger keeps its history; your name and address are gone.')
    })
}
