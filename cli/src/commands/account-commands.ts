import { logIn, logOut } from '@orbyte/sdk'
import type { Command } from 'commander'
import { examples } from '../arguments.ts'
import { keepLogin, savedLogin } from '../cli-config.ts'
import type { Cli } from '../cli.ts'
import { CliError, exitCodes } from '../exit-codes.ts'
import { orb } from '../format.ts'
import { ask, readPassword, readStdin } from '../prompt.ts'
import { details } from '../table.ts'

type LoginOptions = { passwordStdin?: boolean; keyStdin?: boolean; name?: string }

export function addAccountCommands(program: Command, cli: Cli) {
  const register = program
    .command('register')
    .summary('make an account and log in')
    .description('Make an account at the market and log in. The password is asked for without echo.')
    .argument('[email]', 'your email address')
    .option('--name <name>', 'how others see you')
    .option('--password-stdin', 'read the password from standard input')
    .action((email, options) => runRegister(cli, email, options))
  examples(register, [
    'register alice@example.org',
    '--url https://market.example register alice@example.org --name Alice',
  ])

  const login = program
    .command('login')
    .summary('log in')
    .description('Log in and stay logged in for 30 days after the last use.')
    .argument('[email]', 'your email address')
    .option('--password-stdin', 'read the password from standard input')
    .option('--key-stdin', 'use an API key, read from standard input, instead of a password')
    .action((email, options) => runLogin(cli, email, options))
  examples(login, [
    'login alice@example.org',
    'login alice@example.org --password-stdin < password.txt',
    'login --key-stdin < key.txt',
  ])

  program
    .command('logout')
    .summary('end this session')
    .description('End this session at the market and forget its tokens on this machine.')
    .action(() => runLogout(cli))

  program
    .command('whoami')
    .summary('who is logged in, where, and with how much money')
    .action(() => runWhoami(cli))
}

async function runRegister(cli: Cli, given: string | undefined, { name, passwordStdin }: LoginOptions) {
  const email = given ?? (await ask(cli.terminal, 'Email: '))
  const password = await readPassword(cli.terminal, {
    passwordStdin,
    twice: true,
    question: 'Password (at least 10 characters): ',
  })
  const user = await cli.client.auth.register({ email, password, name })
  await logInHere(cli, { email, password })
  cli.show(user, () => `Welcome, ${user.name ?? user.email}. You are logged in at ${cli.url}.`)
  if (!cli.json)
    cli.terminal.say('Next: orbyte wallet deposit 100 · orbyte gpus list · orbyte run text "Once upon a time"')
}

async function runLogin(cli: Cli, given: string | undefined, { passwordStdin, keyStdin }: LoginOptions) {
  if (keyStdin) await keepKey(cli)
  else {
    const email = given ?? savedLogin(cli.environment.configPath, cli.url).email ?? (await ask(cli.terminal, 'Email: '))
    await logInHere(cli, {
      email,
      password: await readPassword(cli.terminal, { passwordStdin, question: `Password of ${email}: ` }),
    })
  }
  const user = await cli.client.auth.me()
  cli.show(user, () => `Logged in as ${user.email} at ${cli.url}.`)
}

async function logInHere(cli: Cli, credentials: { email: string; password: string }) {
  refuseToken(cli)
  await logIn(cli.client, credentials)
  await keepLogin(cli.environment.configPath, cli.url, { email: credentials.email })
}

async function keepKey(cli: Cli) {
  refuseToken(cli)
  const key = (await readStdin(cli.terminal)).trim()
  if (key === '')
    throw new CliError('Standard input holds no key. Make one with: orbyte keys create NAME', exitCodes.usage)
  await cli.client.setTokens({ access_token: key, refresh_token: null })
}

/** Whoever sets it means it for every command; a login beside it would look as if it had an effect. */
function refuseToken(cli: Cli) {
  if (cli.environment.token)
    throw new CliError(
      'ORBYTE_TOKEN is set and is what every command uses. Unset it to log in as somebody else.',
      exitCodes.usage,
    )
}

async function runLogout(cli: Cli) {
  refuseToken(cli)
  await logOut(cli.client)
  cli.show({ ok: true }, () => `Logged out at ${cli.url}.`)
}

async function runWhoami(cli: Cli) {
  const [user, wallet] = await Promise.all([cli.client.auth.me(), cli.client.wallet.get()])
  cli.show({ ...user, url: cli.url, wallet }, () =>
    details([
      ['Email', user.email],
      ['Name', user.name],
      ['User', user.id],
      ['Role', user.role === 'admin' ? 'administrator' : null],
      ['Market', cli.url],
      ['Balance', orb(wallet.balance)],
      ['Held', wallet.held === '0' ? null : orb(wallet.held)],
    ]),
  )
}
