import { createHash } from 'node:crypto'
import { createReadStream, rmSync } from 'node:fs'
import { rm, stat } from 'node:fs/promises'
import { Readable } from 'node:stream'
import { backupFileName, type BackupManifest, backupNames, backupText, problem } from '@orbyte/protocol'
import { type Context, nowIso } from '../context.ts'
import { DatabaseReadError } from '../db/database.ts'
import { openSqliteReadOnly } from '../db/sqlite-database.ts'
import type { Caller } from '../http/route.ts'
import type { Ledger } from '../ledger/ledger-service.ts'
import { version } from '../version.ts'
import { recordAction } from './admin-store.ts'
import { fileHashes } from './backup-store.ts'
import { tarEnd, tarHeader, tarPadding } from './tar.ts'

export type BackupService = ReturnType<typeof createBackupService>

const chunkBytes = 1024 * 1024

/**
 * A consistent copy of the market while it runs: the database as it was at one moment, the files that it names, and a manifest
 * with the market's signature. The database is copied beside itself first, so that a slow reader holds up nothing.
 */
export function createBackupService(context: Context, { ledger }: { ledger: Ledger }) {
  const { database, files, config } = context
  const copyPath = `${config.databasePath}.backup`
  const isInMemory = config.databasePath === ':memory:'
  let running = false
  // What a crash in the middle of a backup left behind.
  if (!isInMemory) rmSync(copyPath, { force: true })

  async function* archive(createdAt: string): AsyncGenerator<Buffer, void, undefined> {
    const modifiedAtMs = Date.parse(createdAt)
    const hash = createHash('sha256')
    const { size } = await stat(copyPath)
    yield tarHeader({ name: backupNames.database, sizeBytes: size, modifiedAtMs })
    for await (const chunk of createReadStream(copyPath, { highWaterMark: chunkBytes })) {
      hash.update(chunk as Buffer)
      yield chunk as Buffer
    }
    yield tarPadding(size)
    const missing: string[] = []
    const { reader, close } = openSqliteReadOnly(copyPath)
    try {
      for await (const sha256 of fileHashes(reader)) {
        const bytes = await files.get(sha256)
        if (bytes === null) missing.push(sha256)
        else yield* tarFile(backupFileName(sha256), Buffer.from(bytes), modifiedAtMs)
      }
    } finally {
      close()
    }
    const manifest = sign({ createdAt, sizeBytes: size, sha256: hash.digest('hex'), missing })
    yield* tarFile(backupNames.manifest, Buffer.from(`${JSON.stringify(manifest, null, 2)}\n`), modifiedAtMs)
    yield tarEnd
  }

  type Facts = { createdAt: string; sizeBytes: number; sha256: string; missing: string[] }
  function sign({ createdAt, sizeBytes, sha256, missing }: Facts): BackupManifest {
    const unsigned = {
      format: 'orbyte-backup-1' as const,
      version,
      created_at: createdAt,
      database: { size_bytes: sizeBytes, sha256 },
      missing_files: missing,
      public_key: ledger.publicKey,
    }
    return { ...unsigned, signature: ledger.sign(backupText(unsigned)) }
  }

  async function copyDatabase(caller: Caller): Promise<string> {
    const adminId = caller.userId || 'operator'
    await database.transaction((tx) =>
      recordAction(tx, { adminId, action: 'market.backup', subject: 'market', reason: null, at: nowIso(context) }),
    )
    const createdAt = nowIso(context)
    await database.backUp(copyPath)
    return createdAt
  }

  async function finish() {
    await rm(copyPath, { force: true })
    running = false
  }

  return {
    /** Resolves with the archive once the database has been copied: from then on only reading can fail. */
    async start(caller: Caller): Promise<Readable> {
      if (isInMemory)
        throw problem('backup_refused', 'This market keeps everything in memory: there is nothing to copy.')
      if (running)
        throw problem('backup_refused', 'Another backup is being made. Try again when it is done, in a few minutes.')
      running = true
      try {
        const createdAt = await copyDatabase(caller)
        const stream = Readable.from(archive(createdAt), { objectMode: false, highWaterMark: chunkBytes })
        stream.once('close', () => {
          finish().catch((error: unknown) => context.log.error({ error }, 'the copy of the database is still there'))
        })
        return stream
      } catch (error) {
        await finish()
        if (!(error instanceof DatabaseReadError)) throw error
        throw problem(
          'backup_refused',
          'Another program reads the database, such as `orbyte ledger verify`. Try again when it is done.',
        )
      }
    },
  }
}

function* tarFile(name: string, bytes: Buffer, modifiedAtMs: number): Generator<Buffer, void, undefined> {
  yield tarHeader({ name, sizeBytes: bytes.length, modifiedAtMs })
  yield bytes
  yield tarPadding(bytes.length)
}
