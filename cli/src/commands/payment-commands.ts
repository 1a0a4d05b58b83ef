import { writeFile } from 'node:fs/promises'
import type { api, InputOf, OutputOf } from '@orbyte/protocol'
import type { Command } from 'commander'
import { examples, pageOptions, type PageOptions } from '../arguments.ts'
import type { Cli } from '../cli.ts'
import { duration, localTime, orb, perHour } from '../format.ts'
import { fetchItems } from '../lists.ts'
import { paymentIdOf, taskIdOf } from '../references.ts'
import { type Column, details } from '../table.ts'

type Payment = OutputOf<typeof api.payments.get>
export type Dispute = OutputOf<typeof api.payments.dispute>

export function addPaymentCommands(program: Command, cli: Cli) {
  const payments = program
    .command('payments')
    .summary('what tasks have cost and earned')
    .description(
      'What tasks have cost and earned. Wherever a payment_id is asked for, the id of its task will do, and "last" is the newest one.',
    )
  examples(payments, [
    'payments list --sent',
    'payments pay last',
    'payments dispute pay_01k… "The image is black."',
    'payments receipt pay_01k… -o receipt.json',
    'payments earnings --from 2026-01-01',
  ])
  addLists(payments, cli)
  payments
    .command('show')
    .summary('everything about a payment')
    .argument('<payment_id>')
    .action(async (id: string) =>
      showPayment(cli, await cli.client.payments.get({ payment_id: await paymentIdOf(cli, id) })),
    )
  payments
    .command('pay')
    .summary('pay for a task that was submitted with --no-auto-pay, before its review time is over')
    .argument('<task_id>')
    .action(async (given: string) =>
      showPayment(cli, await cli.client.payments.pay({ task_id: await taskIdOf(cli, given) })),
    )
  payments
    .command('dispute')
    .summary('say what is wrong with a result that you have not paid for yet')
    .argument('<payment_id>')
    .argument('<reason>')
    .action(async (id: string, reason: string) => {
      const dispute = await cli.client.payments.dispute({ payment_id: await paymentIdOf(cli, id), reason })
      cli.show(
        dispute,
        () =>
          `Opened ${dispute.id}. It is decided by ${localTime(dispute.decide_by)} at the latest; your money stays held until then.`,
      )
    })
  payments
    .command('receipt')
    .summary('a receipt that anybody can verify offline')
    .argument('<payment_id>')
    .option('-o, --output <file>', 'write it to a file')
    .action((id: string, options: { output?: string }) => runReceipt(cli, id, options))
}

function addLists(payments: Command, cli: Cli) {
  pageOptions(payments.command('list', { isDefault: true }))
    .summary('your payments, newest first')
    .option('--sent', 'only what you paid')
    .option('--received', 'only what you were paid')
    .action(async ({ sent, received, ...options }: PageOptions & { sent?: boolean; received?: boolean }) => {
      const calls = cli.client.payments
      const page = await fetchItems(sent ? calls.sent : received ? calls.received : calls.list, {}, options)
      cli.showList(page, {
        columns: paymentColumns(cli),
        empty: 'No payments yet: one appears when a task has run. Try: orbyte run text "Once upon a time"',
      })
    })
  payments
    .command('earnings')
    .summary('what your GPUs earned, by day and GPU')
    .option('--from <day>', 'first day, like 2026-01-31; 30 days ago by default')
    .option('--to <day>', 'last day; today by default')
    .action((range: InputOf<typeof api.payments.earnings>) => runEarnings(cli, range))
  pageOptions(payments.command('disputes'))
    .summary('the disputes that you are a side of')
    .action(async (options: PageOptions) =>
      cli.showList(await fetchItems(cli.client.payments.disputes, {}, options), {
        columns: disputeColumns,
        empty: 'You have no disputes.',
      }),
    )
}

async function runEarnings(cli: Cli, range: InputOf<typeof api.payments.earnings>) {
  const earnings = await cli.client.payments.earnings(range)
  cli.showList(earnings, {
    empty: 'Your GPUs have earned nothing in that time. Are they offered? orbyte gpus mine',
    columns: [
      { title: 'day', value: ({ day }) => day },
      { title: 'gpu', value: ({ gpu_name }) => gpu_name, shrinks: true },
      { title: 'tasks', value: ({ tasks }) => tasks, right: true },
      { title: 'run time', value: ({ run_ms }) => duration(run_ms), right: true },
      { title: 'earned', value: ({ amount }) => amount, right: true },
    ],
  })
  if (!cli.json && earnings.items.length > 0) cli.terminal.print(`Together: ${earnings.total} ORB`)
}

async function runReceipt(cli: Cli, id: string, { output }: { output?: string }) {
  const receipt = await cli.client.payments.receipt({ payment_id: await paymentIdOf(cli, id) })
  const text = JSON.stringify(receipt, null, 2)
  if (output === undefined) return cli.terminal.print(text)
  await writeFile(output, `${text}\n`)
  cli.show(receipt, () => `Wrote ${output}. Check it offline with: orbyte ledger verify ${output}`)
}

const statusColours = { pending: 'yellow', disputed: 'red', completed: 'green', refunded: 'dim' } as const

function paymentColumns(cli: Cli): Column<Payment>[] {
  return [
    { title: 'id', value: ({ id }) => id },
    { title: 'time', value: ({ created_at }) => localTime(created_at) },
    {
      title: 'status',
      value: ({ status }) => status,
      paint: (text, { status }) => cli.terminal.paint(statusColours[status], text),
    },
    { title: 'amount', value: ({ amount }) => amount, right: true },
    { title: 'run time', value: ({ run_ms }) => duration(run_ms), right: true },
    { title: 'task', value: ({ task_id }) => task_id, shrinks: true },
  ]
}

export const disputeColumns: Column<Dispute>[] = [
  { title: 'id', value: ({ id }) => id },
  { title: 'status', value: ({ status }) => status },
  { title: 'payment', value: ({ payment_id }) => payment_id },
  { title: 'decide by', value: ({ decide_by }) => localTime(decide_by) },
  { title: 'reason', value: ({ reason }) => reason, shrinks: true },
  { title: 'note', value: ({ note }) => note, shrinks: true },
]

export function showPayment(cli: Cli, payment: Payment) {
  cli.show(payment, () =>
    details([
      ['Payment', payment.id],
      ['Status', payment.status],
      ['Amount', orb(payment.amount)],
      ['Fee', `${payment.fee} ORB of it`],
      ['Refunded', payment.refunded === '0' ? null : orb(payment.refunded)],
      ['Run time', `${duration(payment.run_ms)} at ${perHour(payment.price_per_hour)}`],
      ['Task', payment.task_id],
      ['GPU', payment.gpu_id],
      ['From', payment.payer_id],
      ['To', payment.recipient_id],
      ['Review until', payment.status === 'pending' ? localTime(payment.review_until) : null],
      ['Settled', localTime(payment.settled_at)],
      ['Transaction', payment.transaction_hash],
    ]),
  )
  if (!cli.json && payment.status === 'pending')
    cli.terminal.say(
      `Pay now: orbyte payments pay ${payment.task_id} · something is wrong: orbyte payments dispute ${payment.id} "…"`,
    )
}
