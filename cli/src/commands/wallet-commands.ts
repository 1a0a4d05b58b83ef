import type { Command } from 'commander'
import { amount, examples, pageOptions, type PageOptions } from '../arguments.ts'
import type { Cli } from '../cli.ts'
import { localTime, orb } from '../format.ts'
import { fetchItems } from '../lists.ts'
import { details } from '../table.ts'

export function addWalletCommands(program: Command, cli: Cli) {
  const wallet = program
    .command('wallet')
    .summary('your money')
    .description('Your balance, and every transfer from or to it.')
  examples(wallet, ['wallet', 'wallet deposit 100', 'wallet transfers --limit 10'])

  wallet
    .command('show', { isDefault: true })
    .summary('your balance')
    .action(async () => showWallet(cli, await cli.client.wallet.get()))

  wallet
    .command('deposit')
    .summary('get mock money from the faucet')
    .argument('<amount>', 'in ORB', amount)
    .action(async (given: string) => showWallet(cli, await cli.client.wallet.deposit({ amount: given })))

  wallet
    .command('withdraw')
    .summary('take money out of the market')
    .argument('<amount>', 'in ORB', amount)
    .action(async (given: string) => showWallet(cli, await cli.client.wallet.withdraw({ amount: given })))

  pageOptions(wallet.command('transfers'))
    .summary('every movement of your money, newest first')
    .action((options: PageOptions) => listTransfers(cli, options))
}

type Wallet = Awaited<ReturnType<Cli['client']['wallet']['get']>>

function showWallet(cli: Cli, wallet: Wallet) {
  cli.show(wallet, () =>
    details([
      ['Balance', orb(wallet.balance)],
      ['Held', `${wallet.held} ORB (for tasks that have not ended and payments under review)`],
      ['Faucet', `${wallet.faucet_remaining} ORB more today`],
    ]),
  )
  if (!cli.json && wallet.balance === '0' && wallet.faucet_remaining !== '0')
    cli.terminal.say('Get mock money with: orbyte wallet deposit 100')
}

async function listTransfers(cli: Cli, options: PageOptions) {
  const page = await fetchItems(cli.client.wallet.transfers, {}, options)
  cli.showList(page, {
    empty: 'Nothing has moved yet. Get mock money with: orbyte wallet deposit 100',
    columns: [
      { title: 'no', value: ({ seq }) => seq, right: true },
      { title: 'time', value: ({ created_at }) => localTime(created_at) },
      { title: 'kind', value: ({ kind }) => kind },
      { title: 'amount', value: ({ amount: moved }) => moved, right: true },
      { title: 'from', value: ({ debit_account }) => debit_account, shrinks: true },
      { title: 'to', value: ({ credit_account }) => credit_account, shrinks: true },
      { title: 'task', value: ({ task_id }) => task_id },
    ],
  })
}
