import { createHash, createPublicKey, verify } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { backupFileName, BackupManifest, backupNames, backupText } from '@orbyte/protocol'
import type { Reader } from '../db/database.ts'
import { checkSchemaVersion } from '../db/migrations.ts'
import { openSqliteReadOnly } from '../db/sqlite-database.ts'
import { ledgerKeyFrom } from '../ledger/ledger-key.ts'
import { type LedgerReport, verifyLedger } from '../ledger/ledger-verify.ts'
import { readBackupKey } from './backup-keys.ts'
import { fileHashes, integrityProblems, type MarketSize, marketSize } from './backup-store.ts'

export type BackupReport = {
  /** Empty: the backup is whole, and what the market signed. */
  problems: string[]
  manifest: BackupManifest | null
  schema_version: number | null
  market: MarketSize | null
  files: { count: number; bytes: number }
  ledger: LedgerReport | null
  /** Whether the market's keys are with it. */
  has_keys: boolean
}

/**
 * Checks the backup in `folder` by itself: nothing is missing or changed, the market's key signed it, SQLite finds the database
 * whole, its ledger adds up. `publicKey`: the key that the market is known by; without it only the backup's own is used.
 */
export async function verifyBackup(folder: string, publicKey?: string): Promise<BackupReport> {
  const problems: string[] = []
  const manifest = await readManifest(folder, problems)
  const report: BackupReport = {
    ...{ problems, manifest, schema_version: null, market: null, ledger: null },
    files: { count: 0, bytes: 0 },
    has_keys: (await readBackupKey(folder, 'ledger-key')) !== null,
  }
  if (manifest === null) return report
  problems.push(...signatureProblems(manifest, publicKey))
  const database = join(folder, backupNames.database)
  const changed = await changeOf(database, manifest.database)
  if (changed !== null) problems.push(`${backupNames.database} ${changed}`)
  // A file that is not what was signed is not opened: SQLite would be asked to make sense of anything.
  if (problems.length > 0) return report
  const { reader, close } = openSqliteReadOnly(database)
  try {
    await checkDatabase(folder, reader, report)
  } catch (error) {
    problems.push((error as Error).message)
  } finally {
    close()
  }
  return report
}

async function checkDatabase(folder: string, reader: Reader, report: BackupReport) {
  const { problems, manifest, files } = report
  problems.push(...(await integrityProblems(reader)))
  report.schema_version = await checkSchemaVersion(reader)
  report.market = await marketSize(reader)
  report.ledger = await verifyLedger(reader)
  problems.push(...report.ledger.problems)
  if (report.ledger.public_key !== manifest!.public_key) problems.push('another key signs the ledger than the backup')
  const ledgerKey = await readBackupKey(folder, 'ledger-key')
  if (ledgerKey !== null && ledgerKeyFrom(ledgerKey.trim()).publicKey !== manifest!.public_key)
    problems.push(`${backupNames.keys}/ledger-key is not this market's`)
  const missing = new Set(manifest!.missing_files)
  for await (const sha256 of fileHashes(reader)) {
    if (missing.has(sha256)) continue
    const name = backupFileName(sha256)
    const changed = await changeOf(join(folder, name), { sha256 })
    if (changed !== null) problems.push(`${name} ${changed}`)
    else files.bytes += (await stat(join(folder, name))).size
    files.count++
  }
}

async function readManifest(folder: string, problems: string[]): Promise<BackupManifest | null> {
  const path = join(folder, backupNames.manifest)
  try {
    return BackupManifest.parse(JSON.parse(await readFile(path, 'utf8')))
  } catch (error) {
    const isMissing = (error as NodeJS.ErrnoException).code === 'ENOENT'
    problems.push(
      isMissing
        ? `there is no ${backupNames.manifest}: this is no backup, or one that broke off`
        : `${backupNames.manifest} cannot be read`,
    )
    return null
  }
}

function signatureProblems(manifest: BackupManifest, publicKey: string | undefined): string[] {
  if (publicKey !== undefined && publicKey !== manifest.public_key) return ['it is the backup of another market']
  try {
    const key = createPublicKey({ key: { kty: 'OKP', crv: 'Ed25519', x: manifest.public_key }, format: 'jwk' })
    const signature = Buffer.from(manifest.signature, 'base64url')
    return verify(null, Buffer.from(backupText(manifest)), key, signature) ? [] : ['its signature is not the market’s']
  } catch {
    return ['its signature cannot be read']
  }
}

/** What is wrong with a file, to follow its name; null: nothing. */
async function changeOf(path: string, expected: { sha256: string; size_bytes?: number }): Promise<string | null> {
  try {
    const { size } = await stat(path)
    if (expected.size_bytes !== undefined && size !== expected.size_bytes)
      return `has ${size} of ${expected.size_bytes} bytes`
    const hash = createHash('sha256')
    for await (const chunk of createReadStream(path)) hash.update(chunk as Buffer)
    return hash.digest('hex') === expected.sha256 ? null : 'was changed'
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ENOENT'
      ? 'is missing'
      : `cannot be read: ${(error as Error).message}`
  }
}
