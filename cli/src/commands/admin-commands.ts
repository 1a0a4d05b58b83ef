import type { Command } from 'commander'
import { Option } from 'commander'
import type { Client } from '@orbyte/sdk'
import { amount, decimal, examples, pageOptions, type PageOptions } from '../arguments.ts'
import type { Cli } from '../cli.ts'
import { CliError, exitCodes } from '../exit-codes.ts'
import { localTime } from '../format.ts'
import { fetchItems } from '../lists.ts'
import { operatorClient } from '../operator.ts'
import { readPassword } from '../prompt.ts'
import { details } from '../table.ts'
import { type Dispute, disputeColumns, showPayment } from './payment-commands.ts'

type User = Awaited<ReturnType<Client['admin']['suspendUser']>>

export function addAdminCommands(program: Command, cli: Cli) {
  const admin = program
    .command('admin')
    .summary('run a market: users, disputes, checks, pause')
    .description(
      'Run a market. Log in as an administrator, or work as its operator with --secret-file. `create` makes the first administrator: it takes the market’s secret key from --secret-file, SECRET_KEY, or the file beside the database in this folder.',
    )
    .option('--secret-file <file>', 'the market’s secret key: work as its operator')
  examples(admin, [
    'admin create carol@example.org',
    'admin users --email example.org',
    'admin suspend user_01k… "sells an RTX 3060 as an RTX 4090"',
    'admin decide disp_01k… split --refund 0.25 --note "half of the images are black"',
    'admin audits --status disagreed',
    'admin weigh user_01k… 2',
    'admin pause "moving to a new machine"',
  ])
  const secretFile = () => admin.opts<{ secretFile?: string }>().secretFile
  const client = async () => (secretFile() === undefined ? cli.client : operatorClient(cli, secretFile()))
  admin
    .command('create')
    .summary('make an administrator, with the market’s secret key')
    .argument('<email>')
    .option('--password-stdin', 'read the password from standard input')
    .action(async (email: string, { passwordStdin }: { passwordStdin?: boolean }) => {
      const operator = await operatorClient(cli, secretFile())
      const question = 'Password of the new administrator (at least 10 characters): '
      const password = await readPassword(cli.terminal, { passwordStdin, twice: true, question })
      const user = await operator.admin.createAdmin({ email, password })
      cli.show(user, () => `${user.email} is an administrator. Log in with: orbyte login ${user.email}`)
    })
  addUserCommands(admin, cli, client)
  addShareCommands(admin, cli, client)
  addMoneyCommands(admin, cli, client)
  addMarketCommands(admin, cli, client)
  addAudits(admin, cli, client)
}

type AdminClient = () => Promise<Client>

function addUserCommands(admin: Command, cli: Cli, client: AdminClient) {
  pageOptions(admin.command('users'))
    .summary('all users, newest first')
    .option('--email <text>', 'part of the address')
    .action(async ({ email, ...options }: PageOptions & { email?: string }) =>
      cli.showList(await fetchItems((await client()).admin.users, { email }, options), {
        empty: 'No user matches.',
        columns: [
          { title: 'id', value: ({ id }) => id },
          { title: 'email', value: (user) => user.email, shrinks: true },
          { title: 'name', value: ({ name }) => name, shrinks: true },
          { title: 'role', value: ({ role }) => role },
          { title: 'status', value: ({ status }) => status },
          { title: 'since', value: ({ created_at }) => localTime(created_at) },
        ],
      }),
    )
  admin
    .command('suspend')
    .summary('suspend a user or an agent')
    .argument('<user_or_agent_id>')
    .argument('<reason>', 'it is kept with the decision')
    .action(async (id: string, reason: string) => {
      const calls = (await client()).admin
      const changed = isAgent(id)
        ? await calls.suspendAgent({ agent_id: id, reason })
        : await calls.suspendUser({ user_id: id, reason })
      cli.show(changed, () => `${id} is ${changed.status}.`)
    })
  admin
    .command('restore')
    .summary('lift a suspension')
    .argument('<user_or_agent_id>')
    .action(async (id: string) => {
      const calls = (await client()).admin
      const changed: { status: User['status'] | string } = isAgent(id)
        ? await calls.restoreAgent({ agent_id: id })
        : await calls.restoreUser({ user_id: id })
      cli.show(changed, () => `${id} is ${changed.status}.`)
    })
  admin
    .command('reset-password')
    .summary('set a new random password, shown once; all sessions of the user end')
    .argument('<user_id>')
    .action(async (userId: string) => {
      const reset = await (await client()).admin.resetPassword({ user_id: userId })
      cli.show(reset, () => reset.password)
      if (!cli.json) cli.terminal.say('Hand it over, and let it be changed: orbyte account password')
    })
}

function addShareCommands(admin: Command, cli: Cli, client: AdminClient) {
  admin
    .command('shares')
    .summary('who has had how much of the GPUs lately, and who waits')
    .action(async () =>
      cli.showList(await (await client()).admin.shares(), {
        empty: 'Nobody has used a GPU lately, and nobody waits.',
        columns: [
          { title: 'user', value: ({ user_id }) => user_id },
          { title: 'weight', value: ({ weight }) => weight, right: true },
          { title: 'GPU hours lately', value: ({ gpu_hours }) => gpu_hours.toFixed(3), right: true },
          { title: 'GPUs now', value: ({ gpus }) => gpus, right: true },
          { title: 'waiting', value: ({ waiting }) => waiting, right: true },
        ],
      }),
    )
  admin
    .command('weigh')
    .summary('give a renter a larger or smaller share of the GPUs')
    .description(
      'Of two renters who wait, one of weight 2 gets twice as much GPU time as one of weight 1, the default.',
    )
    .argument('<user_id>')
    .argument('<weight>', 'from 0.01 to 100', decimal)
    .action(async (userId: string, weight: number) => {
      const share = await (await client()).admin.setWeight({ user_id: userId, weight })
      cli.show(share, () => `${userId} has weight ${share.weight}.`)
    })
}

const isAgent = (id: string) => id.startsWith('agent_')

function addMoneyCommands(admin: Command, cli: Cli, client: AdminClient) {
  admin
    .command('refund')
    .summary('give a renter money back from a settled payment')
    .argument('<payment_id>')
    .argument('<reason>', 'it is kept with the decision')
    .option('--amount <orb>', 'all that was not refunded yet by default', amount)
    .action(async (id: string, reason: string, options: { amount?: string }) =>
      showPayment(cli, await (await client()).admin.refund({ payment_id: id, reason, amount: options.amount })),
    )
  pageOptions(admin.command('disputes'))
    .summary('all disputes, newest first')
    .addOption(new Option('--status <status>').choices(['open', 'released', 'refunded', 'split']))
    .action(async ({ status, ...options }: PageOptions & { status?: Dispute['status'] }) =>
      cli.showList(await fetchItems((await client()).admin.disputes, { status }, options), {
        empty: 'There are no disputes to decide.',
        columns: disputeColumns,
      }),
    )
  admin
    .command('decide')
    .summary('decide a dispute')
    .argument('<dispute_id>')
    .argument('<release|refund|split>', 'pay the provider, give it back, or divide it')
    .requiredOption('--note <reason>', 'why: both sides read it')
    .option('--refund <orb>', 'for "split": what the renter gets back', amount)
    .action(async (id: string, decision: string, { note, refund }: { note: string; refund?: string }) => {
      if (decision !== 'release' && decision !== 'refund' && decision !== 'split')
        throw new CliError('Decide "release", "refund" or "split".', exitCodes.usage)
      const dispute = await (
        await client()
      ).admin.decideDispute({ dispute_id: id, decision, note, refund_amount: refund })
      cli.show(dispute, () =>
        details([
          ['Dispute', dispute.id],
          ['Status', dispute.status],
          ['Refunded', dispute.refunded],
          ['Note', dispute.note],
        ]),
      )
    })
}

type AuditPage = Awaited<ReturnType<Client['admin']['audits']>>
type Audit = AuditPage['items'][number]

function addAudits(admin: Command, cli: Cli, client: AdminClient) {
  pageOptions(admin.command('audits'))
    .summary('the market’s own checks of GPUs, newest first, and what they cost')
    .addOption(new Option('--status <status>', 'by status').choices(['open', 'agreed', 'disagreed', 'undecided']))
    .option('--gpu <gpu_id>', 'those in which this GPU was asked')
    .action(async ({ status, gpu, ...options }: PageOptions & { status?: Audit['status']; gpu?: string }) => {
      const { admin: calls } = await client()
      let last: AuditPage | null = null
      const list = async (page: object) => (last = await calls.audits({ status, gpu_id: gpu, ...page }))
      cli.showList(await fetchItems(list, {}, options), {
        empty: 'There are no checks. They need GPUs of one kind from two owners, and a budget (AUDIT_BUDGET_PER_DAY).',
        columns: [
          { title: 'id', value: ({ id }) => id },
          { title: 'time', value: ({ created_at }) => localTime(created_at) },
          { title: 'kind', value: ({ kind }) => kind },
          { title: 'status', value: ({ status: word }) => word },
          { title: 'model', value: ({ model }) => model, shrinks: true },
          { title: 'class', value: ({ device_class }) => device_class, shrinks: true },
          { title: 'gpus', value: ({ answers }) => answers.map(answerText).join('; '), shrinks: true },
          { title: 'cost', value: ({ cost }) => cost, right: true },
        ],
      })
      const { spent, budget_per_day } = last as unknown as AuditPage
      if (!cli.json) cli.terminal.say(`Spent in 24 hours: ${spent} of ${budget_per_day} ORB.`)
    })
}

const answerText = ({ gpu_id, verdict }: Audit['answers'][number]) => `${gpu_id} ${verdict.replace('_', ' ')}`

function addMarketCommands(admin: Command, cli: Cli, client: AdminClient) {
  pageOptions(admin.command('log'))
    .summary('what administrators have decided, newest first: who, what and why')
    .action(async (options: PageOptions) =>
      cli.showList(await fetchItems((await client()).admin.actions, {}, options), {
        empty: 'No administrator has decided anything yet.',
        columns: [
          { title: 'time', value: ({ created_at }) => localTime(created_at) },
          { title: 'who', value: ({ admin_id }) => admin_id },
          { title: 'what', value: ({ action }) => action },
          { title: 'about', value: ({ subject }) => subject },
          { title: 'why', value: ({ reason: why }) => why, shrinks: true },
        ],
      }),
    )
  admin
    .command('pause')
    .summary('accept no new tasks and start no new attempts; what runs goes on')
    .argument('<reason>', 'it is told to whoever submits a task')
    .action(async (reason: string) => {
      const market = await (await client()).admin.pauseMarket({ reason })
      cli.show(market, () => 'The market is paused. Go on with: orbyte admin resume')
    })
  admin
    .command('resume')
    .summary('go on after a pause')
    .action(async () => {
      const market = await (await client()).admin.resumeMarket()
      cli.show(market, () => 'The market goes on.')
    })
}
