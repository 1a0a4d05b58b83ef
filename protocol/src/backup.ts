import { z } from 'zod'
import { Timestamp } from './endpoint.ts'

const Sha256 = z.string().regex(/^[0-9a-f]{64}$/)

/** What a backup is, signed by the market: the last file of the archive, so that one which broke off has none. */
export const BackupManifest = z
  .object({
    format: z.literal('orbyte-backup-1'),
    version: z.string().max(100).describe('Of the Orbyte that made it.'),
    created_at: Timestamp.describe('What was acknowledged before this moment is in it.'),
    database: z.object({ size_bytes: z.int().positive(), sha256: Sha256 }),
    missing_files: z.array(Sha256).describe('Files that were deleted while the backup was made.'),
    public_key: z.string().max(200).describe('The market’s: the one that signs its ledger.'),
    signature: z.string().max(200),
  })
  .meta({ id: 'BackupManifest' })
export type BackupManifest = z.infer<typeof BackupManifest>

/** The names of what is in a backup: the database, the files of tasks by their hash, the manifest. */
export const backupNames = { database: 'orbyte.db', files: 'files', manifest: 'backup.json', keys: 'keys' } as const

export function backupFileName(sha256: string): string {
  return `${backupNames.files}/${sha256.slice(0, 2)}/${sha256}`
}

/** The bytes that the signature covers. The database's hash covers all that is in it. */
export function backupText(manifest: Omit<BackupManifest, 'signature' | 'public_key'>): string {
  const { format, version, created_at, database, missing_files } = manifest
  return JSON.stringify([format, version, created_at, database.size_bytes, database.sha256, ...missing_files])
}
