import { open, readFile, stat } from 'node:fs/promises'
import { Receipt, verifyReceipt } from '@orbyte/protocol'
import type { Command } from 'commander'
import { examples } from '../arguments.ts'
import type { Cli } from '../cli.ts'
import { CliError, exitCodes, unreadable } from '../exit-codes.ts'
import { count, localTime } from '../format.ts'
import { details } from '../table.ts'
import { runVerifyBackup } from './backup-commands.ts'

export function addLedgerCommands(program: Command, cli: Cli) {
  const ledger = program.command('ledger').summary('check that the money adds up')
  examples(ledger, [
    'ledger head',
    'payments receipt pay_01k… -o receipt.json',
    'ledger verify receipt.json --key MARKET_PUBLIC_KEY',
    'ledger verify ./orbyte.db',
    'ledger verify /backups/monday',
  ])
  ledger
    .command('head', { isDefault: true })
    .summary('the newest link of the market’s hash chain')
    .action(() => runHead(cli))
  ledger
    .command('verify')
    .summary('check a receipt, a market’s database file or a backup, offline')
    .description(
      'Check a receipt (JSON), the database file of a market, as it is at this moment, or a folder that `orbyte backup` made. Nothing is asked of the network. A receipt and a backup are checked with the key that is in them, unless you say which market’s key you trust: it is in `orbyte ledger head`.',
    )
    .argument('<file>', 'receipt.json, orbyte.db or the folder of a backup')
    .option('--key <public_key>', 'the market’s public key, base64url; for receipts and backups')
    .action(async (path: string, { key }: { key?: string }) => {
      if (await isFolder(path)) return runVerifyBackup(cli, path, key)
      return (await isDatabase(path)) ? runVerifyDatabase(cli, path) : runVerifyReceipt(cli, path, key)
    })
}

async function runHead(cli: Cli) {
  const head = await cli.client.ledger.head()
  cli.show(head, () =>
    details([
      ['Public key', head.public_key],
      ['Transfers', head.transfers],
      ['Sum', `${head.sum} (of all balances: always 0)`],
      ['Batch', head.head?.batch ?? 'none yet'],
      ['Hash', head.head?.hash ?? null],
      ['Signature', head.head?.signature ?? null],
      ['Committed', localTime(head.head?.committed_at ?? null)],
    ]),
  )
}

const isFolder = async (path: string) => (await stat(path).catch(() => null))?.isDirectory() ?? false

async function isDatabase(path: string): Promise<boolean> {
  const magic = 'SQLite format 3\0'
  try {
    const file = await open(path)
    try {
      const { buffer, bytesRead } = await file.read(Buffer.alloc(magic.length), 0, magic.length, 0)
      return buffer.subarray(0, bytesRead).toString('latin1') === magic
    } finally {
      await file.close()
    }
  } catch (error) {
    throw unreadable(path, error)
  }
}

async function runVerifyReceipt(cli: Cli, path: string, key: string | undefined) {
  const receipt = await readReceipt(path)
  const check = await verifyReceipt(receipt, key)
  if (!check.ok) {
    cli.show(
      { ok: false, problem: check.problem },
      () => `${cli.terminal.paint('red', 'This receipt does not hold')}: ${check.problem}.`,
    )
    throw new CliError(`${path} does not prove its payment.`)
  }
  const { payment, public_key } = receipt
  cli.show({ ok: true, payment, public_key }, () =>
    [
      cli.terminal.paint('green', 'This receipt holds.'),
      details([
        ['Payment', payment.id],
        ['Task', payment.task_id],
        ['Amount', `${payment.amount} ORB, ${payment.fee} of it fee`],
        ['Settled', localTime(payment.settled_at)],
        ['Signed by', public_key],
      ]),
    ].join('\n'),
  )
  if (!cli.json && key === undefined)
    cli.terminal.say('Is that the market’s key? Compare it with: orbyte ledger head, or give it as --key.')
}

async function readReceipt(path: string) {
  const text = await readFile(path, 'utf8')
  let document: unknown
  try {
    document = JSON.parse(text)
  } catch {
    throw new CliError(`${path} is neither a receipt (JSON) nor a market’s database.`, exitCodes.usage)
  }
  // Checked in its wire form: what is hashed are the strings as they are.
  const parsed = Receipt.safeParse(document)
  if (!parsed.success) {
    const [issue] = parsed.error.issues
    throw new CliError(`${path} is no receipt: ${issue?.path.join('.')}: ${issue?.message}.`, exitCodes.usage)
  }
  return document as Parameters<typeof verifyReceipt>[0]
}

async function runVerifyDatabase(cli: Cli, path: string) {
  const { verifyLedgerFile } = await import('@orbyte/server/ledger/ledger-verify.ts')
  const report = await verifyLedgerFile(path).catch((error: unknown) => {
    if (!(error instanceof Error) || error.name !== 'DatabaseInUseError') throw error
    throw new CliError(`A market is running on ${path}. Stop it first, or verify a backup: orbyte backup --help`)
  })
  const isSound = report.problems.length === 0
  cli.show({ ok: isSound, ...report }, () => {
    const size = `${count(report.transfers, 'transfer')} in ${report.batches} batches, ${count(report.accounts, 'account')}`
    if (isSound)
      return `${cli.terminal.paint('green', 'The ledger is sound')}: ${size}. Head: ${report.head ?? 'none yet'}`
    return [
      `${cli.terminal.paint('red', 'The ledger is not sound')}: ${size}.`,
      ...report.problems.map((text) => `  ${text}`),
    ].join('\n')
  })
  if (!isSound) throw new CliError(`${path}: ${count(report.problems.length, 'problem')} found.`)
}
