import {
  appendFileSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { createHash } from 'node:crypto'
import { join } from 'node:path'
import { tmpdir } from 'node:os'
import { DatabaseSync } from '@photostructure/sqlite'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { type BackupManifest, backupText, signOperatorToken } from '@orbyte/protocol'
import { loadConfig } from '../config.ts'
import { openSqliteReadOnly } from '../db/sqlite-database.ts'
import { startTestServer, type TestServer, type TestUser } from '../fixture-server.ts'
import { ledgerKeyFrom } from '../ledger/ledger-key.ts'
import { BackupError } from './backup-keys.ts'
import { restoreBackup, unpackBackup } from './backup-folder.ts'
import { verifyBackup } from './backup-verify.ts'

let folder: string
let market: TestServer
let backup: string
let alice: TestUser
beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'orbyte-backup-'))
  market = await start('orbyte.db')
  backup = join(folder, 'backup')
  alice = await market.newUser('alice@example.org')
  await market.call('POST /api/wallet/deposit', { token: alice.token, body: { amount: '5' } })
})
afterEach(async () => {
  await market.close()
  rmSync(folder, { recursive: true, force: true })
})

const start = (name: string) => {
  const environment = { DATABASE_URL: join(folder, name), PORT: '0', LOG_LEVEL: 'silent' }
  const { databasePath, secretKey, ledgerKey } = loadConfig(environment)
  return startTestServer({ databasePath, secretKey, ledgerKey })
}

async function ask(): Promise<Response> {
  const token = await signOperatorToken(market.context.config.secretKey, market.clock.now())
  return fetch(`${market.url}/api/admin/backup`, { method: 'POST', headers: { authorization: `Bearer ${token}` } })
}

async function backUp() {
  const response = await ask()
  expect(response.status).toBe(200)
  return unpackBackup(response.body as never, backup)
}

const manifestOf = () => JSON.parse(readFileSync(join(backup, 'backup.json'), 'utf8')) as BackupManifest
const keep = (manifest: object) => writeFileSync(join(backup, 'backup.json'), JSON.stringify(manifest))

function change(sql: string) {
  const database = new DatabaseSync(join(backup, 'orbyte.db'))
  database.exec(sql)
  database.close()
}

/** As somebody would who has another key: the manifest fits the changed database. */
function signAnew(secret: string) {
  const bytes = readFileSync(join(backup, 'orbyte.db'))
  const database = { size_bytes: bytes.length, sha256: createHash('sha256').update(bytes).digest('hex') }
  const key = ledgerKeyFrom(secret)
  const manifest = { ...manifestOf(), database, public_key: key.publicKey }
  keep({ ...manifest, signature: key.sign(backupText(manifest)) })
}

test('a backup is sound, for its owner alone, holds no key, and is written down', async () => {
  const task = { task_type: 'other', input_data: {}, wait: true, max_price_per_hour: '1' }
  const submit = () => market.call('POST /api/tasks/', { token: alice.token, body: task })
  const { id } = (await submit()).body as { id: string }
  await submit()
  await submit()
  await market.call(`POST /api/tasks/${id}/cancel`, { token: alice.token })
  await backUp()
  expect(await verifyBackup(backup)).toMatchObject({
    problems: [],
    market: { users: 1, tasks: 3, tasks_open: 2, payments: 0 },
    ledger: { transfers: 5, public_key: manifestOf().public_key },
    has_keys: false,
  })
  expect(readdirSync(backup).sort()).toEqual(['backup.json', 'orbyte.db'])
  for (const name of ['.', 'backup.json', 'orbyte.db']) expect(statSync(join(backup, name)).mode & 0o077, name).toBe(0)
  const action = await market.context.database.read((reader) =>
    reader.get('SELECT admin_id, action FROM admin_actions'),
  )
  expect(action).toEqual({ admin_id: 'operator', action: 'market.backup' })
  await expect.poll(() => existsSync(join(folder, 'orbyte.db.backup'))).toBe(false)
})

test('whatever is changed in a backup is found', async () => {
  await backUp()
  const whole = { database: readFileSync(join(backup, 'orbyte.db')), manifest: manifestOf() }
  const finds = async (expected: string, alter: () => void, publicKey?: string) => {
    alter()
    expect((await verifyBackup(backup, publicKey)).problems.join('; ')).toContain(expected)
    writeFileSync(join(backup, 'orbyte.db'), whole.database)
    keep(whole.manifest)
  }
  const { databasePath, ledgerKey } = market.context.config
  await finds('of', () => writeFileSync(join(backup, 'orbyte.db'), whole.database.subarray(0, -4_096)))
  await finds('bytes', () => appendFileSync(join(backup, 'orbyte.db'), 'more'))
  await finds('was changed', () => change(`UPDATE users SET role = 'admin'`))
  await finds('is missing', () => rmSync(join(backup, 'orbyte.db')))
  await finds('broke off', () => rmSync(join(backup, 'backup.json')))
  await finds('cannot be read', () => writeFileSync(join(backup, 'backup.json'), '{'))
  await finds('signature', () => keep({ ...whole.manifest, created_at: '2027-01-01T00:00:00.000Z' }))
  await finds('another market', () => {}, 'A'.repeat(43))
  await finds('another key signs', () => signAnew('a secret of somebody else'))
  // Even with the market's own key the ledger inside has to add up.
  await finds('transfer 1 was changed', () => {
    change('UPDATE transfers SET amount_micros = amount_micros + 1')
    signAnew(ledgerKey)
  })
  await finds('schema version 99', () => {
    change(`UPDATE settings SET value = '99' WHERE name = 'schema_version'`)
    signAnew(ledgerKey)
  })
  expect((await verifyBackup(backup)).problems).toEqual([])
  expect(databasePath).toBe(join(folder, 'orbyte.db'))
})

test('files of tasks are in it; one that is deleted meanwhile is named, one that goes missing later is found', async () => {
  const put = async (text: string) => {
    const sha256 = createHash('sha256').update(text).digest('hex')
    await market.context.files.put(sha256, Buffer.from(text))
    await market.context.database.transaction((tx) =>
      tx.run(
        `INSERT INTO task_files VALUES ('task', 'attempt', ?, 'text/plain', ?, ?, '2026-03-01T12:00:00.000Z')`,
        ...[text, text.length, sha256],
      ),
    )
    return sha256
  }
  const [kept, deleted] = [await put('kept'), await put('deleted')]
  await market.context.files.remove(deleted)
  await backUp()
  expect(manifestOf().missing_files).toEqual([deleted])
  expect(await verifyBackup(backup)).toMatchObject({ problems: [], files: { count: 1, bytes: 4 } })
  const path = join(backup, 'files', kept.slice(0, 2), kept)
  writeFileSync(path, 'other')
  expect((await verifyBackup(backup)).problems).toEqual([`files/${kept.slice(0, 2)}/${kept} was changed`])
  rmSync(path)
  expect((await verifyBackup(backup)).problems).toEqual([`files/${kept.slice(0, 2)}/${kept} is missing`])
})

test('two backups at once are one too many, and one that is given up makes room for the next', async () => {
  // A body that nobody reads, and too large to be on its way all at once.
  await market.context.database.transaction((tx) =>
    tx.run(`INSERT INTO settings VALUES ('filler', CAST(zeroblob(40000000) AS TEXT))`),
  )
  const first = await ask()
  const second = await ask()
  expect([second.status, await second.json()]).toMatchObject([409, { code: 'backup_refused' }])
  await first.body!.cancel()
  await expect.poll(async () => (await ask().then(endOf)).status).toBe(200)
  await expect.poll(() => existsSync(join(folder, 'orbyte.db.backup'))).toBe(false)
})

async function endOf(response: Response): Promise<Response> {
  await response.arrayBuffer()
  return response
}

test('while another program reads the database there is no backup, and its answer says so', async () => {
  const { reader, close } = openSqliteReadOnly(join(folder, 'orbyte.db'))
  await reader.get('SELECT count(*) FROM users')
  const refused = await ask()
  expect([refused.status, await refused.json()]).toMatchObject([
    409,
    { code: 'backup_refused', detail: expect.stringContaining('orbyte ledger verify') as unknown },
  ])
  close()
  await backUp()
  expect(await verifyBackup(backup)).toMatchObject({ problems: [] })
})

test('an archive that breaks off is no backup', async () => {
  const bytes = new Uint8Array(await (await ask()).arrayBuffer())
  const part = async function* () {
    yield bytes.subarray(0, bytes.length - 2_000)
  }
  await expect(unpackBackup(part(), backup)).rejects.toThrow('breaks off')
  expect((await verifyBackup(backup)).problems[0]).toContain('broke off')
})

test('a market in memory is not backed up, and says so', async () => {
  const inMemory = await startTestServer()
  const token = await signOperatorToken(inMemory.context.config.secretKey, inMemory.clock.now())
  const answer = await inMemory.call('POST /api/admin/backup', { token })
  await inMemory.close()
  expect(answer).toMatchObject({ status: 409, body: { code: 'backup_refused' } })
})

test('a restore overwrites nothing, and takes no other market’s ledger key', async () => {
  await backUp()
  const target = join(folder, 'restored.db')
  for (const suffix of ['', '-wal', '.files']) {
    writeFileSync(target + suffix, 'something')
    await expect(restoreBackup(backup, target), suffix).rejects.toThrow(BackupError)
    rmSync(target + suffix)
  }
  writeFileSync(`${target}.ledger-key`, 'a secret of somebody else')
  await expect(restoreBackup(backup, target)).rejects.toThrow('another market')
  writeFileSync(`${target}.ledger-key`, market.context.config.ledgerKey)
  expect(await restoreBackup(backup, target)).toBe('there')
  const restored = await start('restored.db')
  const head = await restored.call('GET /api/ledger/head')
  await restored.close()
  expect(head.body).toMatchObject({ transfers: 1, sum: '0' })
})
