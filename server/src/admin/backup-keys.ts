import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { BackupManifest, backupNames } from '@orbyte/protocol'
import { ledgerKeyFrom } from '../ledger/ledger-key.ts'

/** The market's keys, as they lie beside its database: `orbyte.db.secret`, `orbyte.db.ledger-key`. In a backup: `keys/`. */
export const keyNames = ['secret', 'ledger-key'] as const

/** What a restored market signs its ledger with: the backup's key, one that lies there already, another market's, or none yet. */
export type LedgerKeyState = 'restored' | 'there' | 'wrong' | 'missing'

/** A backup, or a place for one, that cannot be used; the message says what to do. */
export class BackupError extends Error {
  constructor(message: string) {
    super(message)
    this.name = 'BackupError'
  }
}

/** Copies the keys that lie beside a market's database into its backup. */
export async function addKeys(folder: string, databasePath: string) {
  const keys = await Promise.all(keyNames.map((name) => readIfThere(`${databasePath}.${name}`)))
  await mkdir(join(folder, backupNames.keys), { mode: 0o700 })
  for (const [index, name] of keyNames.entries()) {
    const key = keys[index]
    if (key === null || key === undefined)
      throw new BackupError(
        `${databasePath}.${name} is not there. If the market is given that key in its environment, keep the key yourself and make the backup without keys.`,
      )
    await writeNew(join(folder, backupNames.keys, name), key)
  }
}

export function readBackupKey(folder: string, name: (typeof keyNames)[number]): Promise<string | null> {
  return readIfThere(join(folder, backupNames.keys, name))
}

export async function ledgerKeyState(folder: string, databasePath: string): Promise<LedgerKeyState> {
  if ((await readBackupKey(folder, 'ledger-key')) !== null) return 'restored'
  const key = await readIfThere(`${databasePath}.ledger-key`)
  if (key === null) return 'missing'
  const manifest = BackupManifest.parse(JSON.parse(await readFile(join(folder, backupNames.manifest), 'utf8')))
  return ledgerKeyFrom(key.trim()).publicKey === manifest.public_key ? 'there' : 'wrong'
}

export async function writeNew(path: string, text: string) {
  await writeFile(path, text, { flag: 'wx', mode: 0o600, flush: true })
}

async function readIfThere(path: string): Promise<string | null> {
  try {
    return await readFile(path, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null
    throw error
  }
}
