import { existsSync } from 'node:fs'
import { mkdir, rename, rm } from 'node:fs/promises'
import { dirname, join, resolve } from 'node:path'
import type { Command } from 'commander'
import { type Client, OrbyteError } from '@orbyte/sdk'
import { examples } from '../arguments.ts'
import type { Cli } from '../cli.ts'
import { CliError, exitCodes } from '../exit-codes.ts'
import { bytes, count, localTime } from '../format.ts'
import { operatorClient } from '../operator.ts'
import { details } from '../table.ts'
import { createProgress } from '../terminal.ts'

type BackupOptions = { secretFile?: string; keysOf?: string; key?: string }
type Report = Awaited<ReturnType<typeof verify>>

/** The market copies its database before it answers; Node's own limit is as long. */
const replyMsMax = 5 * 60_000

export function addBackupCommands(program: Command, cli: Cli) {
  const backup = program
    .command('backup')
    .summary('copy a running market into a folder, and verify the copy')
    .description(
      'Copy a running market into a new folder: database and files, as they were at one moment. The market goes on meanwhile. The copy is verified and gets its name only if it is sound. Log in as an administrator, or work as the operator with --secret-file. The market’s keys never travel: --keys-of copies them from this machine.',
    )
    .argument('[folder]', 'where to (./orbyte-backup-DATE-TIME)')
    .option('--secret-file <file>', 'the market’s secret key: work as its operator')
    .option('--keys-of <database>', 'copy the two keys that lie beside this database too')
    .option('--key <public_key>', 'the market’s public key, if you know it: the copy has to be signed with it')
    .action((folder: string | undefined, options: BackupOptions) => runBackup(cli, folder, options))
  examples(backup, [
    'backup',
    'backup /backups/monday --secret-file orbyte.db.secret',
    'backup /backups/monday --secret-file orbyte.db.secret --keys-of orbyte.db',
    'ledger verify /backups/monday',
    'restore /backups/monday --database ./orbyte.db',
  ])
  const restore = program
    .command('restore')
    .summary('make a market’s database from a backup')
    .description(
      'Verify a backup and put it where `orbyte serve` finds it. Nothing is overwritten. What happened after the backup is not in it.',
    )
    .argument('<backup>', 'the folder that `orbyte backup` made')
    .requiredOption('--database <file>', 'where the market is to be, like ./orbyte.db')
    .option('--key <public_key>', 'the market’s public key, if you know it: the backup has to be signed with it')
    .action((folder: string, options: { database: string; key?: string }) => runRestore(cli, folder, options))
  examples(restore, ['restore /backups/monday --database ./orbyte.db', 'serve --database ./orbyte.db'])
}

async function runBackup(cli: Cli, given: string | undefined, options: BackupOptions) {
  const folder = resolve(given ?? `orbyte-backup-${localTime(new Date().toISOString())!.replace(/[^\d]+/g, '-')}`)
  if (existsSync(folder))
    throw new CliError(`${folder} exists. A backup is a new folder: give another name.`, exitCodes.usage)
  const client = options.secretFile === undefined ? cli.client : await operatorClient(cli, options.secretFile)
  const partial = `${folder}.partial`
  await makeFolder(dirname(folder))
  await rm(partial, { recursive: true, force: true })
  await receive(cli, client, partial)
  const { addKeys, BackupError } = await import('@orbyte/server/admin/backup-keys.ts')
  if (options.keysOf !== undefined)
    await addKeys(partial, resolve(options.keysOf)).catch(async (error: unknown) => {
      await rm(partial, { recursive: true, force: true })
      throw error instanceof BackupError ? new CliError(error.message, exitCodes.usage) : error
    })
  const report: Report = await verify(cli, partial, options.key)
  if (report.problems.length > 0)
    throw new CliError(
      `The copy is not sound, and was left in ${partial}:\n${report.problems.map((text) => `  ${text}`).join('\n')}`,
    )
  await rename(partial, folder)
  cli.show({ ok: true, folder, ...report }, () =>
    [`${cli.terminal.paint('green', 'The market is backed up')} in ${folder}, and the copy verified.`, describe(report)]
      .join('\n')
      .concat(report.has_keys ? '' : '\nIts keys are not in it: keep a copy of orbyte.db.ledger-key elsewhere.'),
  )
}

/** Before the market copies anything: whether the copy could be kept. */
async function makeFolder(path: string) {
  try {
    await mkdir(path, { recursive: true })
  } catch (error) {
    throw new CliError(`${path} cannot be made (${(error as Error).message}). Give another folder.`, exitCodes.usage)
  }
}

async function receive(cli: Cli, client: Client, folder: string) {
  const { unpackBackup } = await import('@orbyte/server/admin/backup-folder.ts')
  const progress = createProgress(cli.terminal)
  progress.show('The market copies its database.')
  const leaving = new AbortController()
  try {
    const archive = await client.admin.backup({}, { replyMsMax, signal: leaving.signal })
    await unpackBackup(archive, folder, (received) => {
      const files = received.files > 0 ? `, ${count(received.files, 'file')}` : ''
      if (progress.isLive) progress.show(`${bytes(received.bytes)} received${files}`)
    })
  } catch (error) {
    // An archive that nobody reads would keep the connection, and this process, for minutes.
    leaving.abort()
    await rm(folder, { recursive: true, force: true })
    throw failureOf(error)
  } finally {
    progress.clear()
  }
}

/** What the market, the archive or this machine's disk had to say, as a sentence. */
function failureOf(error: unknown): unknown {
  if (error instanceof OrbyteError && error.code === 'forbidden')
    return new CliError(
      'Only an administrator may back up the market. Log in as one, or work as its operator: --secret-file orbyte.db.secret',
    )
  if (!(error instanceof Error) || error instanceof OrbyteError) return error
  return new CliError(`The backup was not made: ${error.message}. What had arrived was removed.`)
}

async function verify(cli: Cli, folder: string, key: string | undefined) {
  const { verifyBackup } = await import('@orbyte/server/admin/backup-verify.ts')
  const progress = createProgress(cli.terminal)
  progress.show('Verifying what was copied.')
  try {
    return await verifyBackup(folder, key)
  } finally {
    progress.clear()
  }
}

/** For `orbyte ledger verify`, which takes the folder of a backup too. */
export async function runVerifyBackup(cli: Cli, folder: string, key: string | undefined) {
  const report: Report = await verify(cli, folder, key)
  const isSound = report.problems.length === 0
  cli.show({ ok: isSound, ...report }, () =>
    isSound
      ? `${cli.terminal.paint('green', 'The backup is sound.')}\n${describe(report)}`
      : `${cli.terminal.paint('red', 'The backup is not sound')}:\n${report.problems.map((text) => `  ${text}`).join('\n')}`,
  )
  if (!isSound) throw new CliError(`${folder}: ${count(report.problems.length, 'problem')} found.`)
}

async function runRestore(cli: Cli, folder: string, { database, key }: { database: string; key?: string }) {
  const path = resolve(database)
  const report: Report = await verify(cli, folder, key)
  if (report.problems.length > 0)
    throw new CliError(
      `${folder} is not restored, because it is not sound:\n${report.problems.map((text) => `  ${text}`).join('\n')}`,
    )
  const { restoreBackup } = await import('@orbyte/server/admin/backup-folder.ts')
  const { BackupError } = await import('@orbyte/server/admin/backup-keys.ts')
  const ledgerKey = await restoreBackup(folder, path).catch((error: unknown) => {
    throw error instanceof BackupError ? new CliError(error.message, exitCodes.usage) : error
  })
  const steps = [
    ...(ledgerKey === 'missing'
      ? [`Put the market’s ledger key at ${path}.ledger-key (or set LEDGER_KEY): it does not start without it.`]
      : []),
    'See that the market which this is a copy of does not run any more: its agents would be told two things.',
    `orbyte serve --database ${path}`,
  ]
  cli.show({ ok: true, database: path, ledger_key: ledgerKey, ...report }, () =>
    [
      `${cli.terminal.paint('green', 'The backup is sound and restored')} to ${path}.`,
      describe(report),
      '',
      'What to do next:',
      ...steps.map((step, index) => `  ${index + 1}. ${step}`),
    ].join('\n'),
  )
}

function describe({ manifest, market, files, ledger, has_keys }: Report): string {
  return details([
    ['As of', localTime(manifest?.created_at ?? null)],
    ['Database', bytes(manifest?.database.size_bytes ?? 0)],
    ['Files', `${files.count}, ${bytes(files.bytes)}`],
    ['Users', market?.users ?? 0],
    ['Tasks', `${market?.tasks ?? 0}, ${market?.tasks_open ?? 0} of them waiting or running`],
    ['Payments', market?.payments ?? 0],
    ['Ledger', `${count(ledger?.transfers ?? 0, 'transfer')}, head ${ledger?.head ?? 'none yet'}`],
    ['Signed by', manifest?.public_key ?? null],
    ['Keys', has_keys ? `in ${join('.', 'keys')}: keep this folder secret` : 'not in it'],
  ])
}
