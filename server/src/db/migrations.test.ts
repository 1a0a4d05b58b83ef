import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { micros } from '@orbyte/protocol'
import { createEventLog } from '../event-store.ts'
import { startTestServer } from '../fixture-server.ts'
import { countCompletedAttempt } from '../gpus/gpu-standing-store.ts'
import { readGpu } from '../gpus/gpu-store.ts'
import { ledgerKeyFrom } from '../ledger/ledger-key.ts'
import { available, createLedger, held } from '../ledger/ledger-service.ts'
import { verifyLedger } from '../ledger/ledger-verify.ts'
import { manualClock } from '../manual-clock.ts'
import { type Database, DatabaseInUseError } from './database.ts'
import { migrate, NewerSchemaError } from './migrations.ts'
import { indexOwned, ownedBehind, ownedRows, readOwned } from './owned-rows.ts'
import { migrations } from './schema-steps.ts'
import { openSqlite, openSqliteReadOnly } from './sqlite-database.ts'

let folder: string
let path: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'orbyte-migrations-'))
  path = join(folder, 'orbyte.db')
})
afterEach(() => rmSync(folder, { recursive: true, force: true }))

const secrets = { secretKey: 'a secret key for tests', ledgerKey: 'a ledger key for tests' }
const start = () => startTestServer({ databasePath: path, ...secrets })
const versionOf = (database: Pick<Database, 'read'>) =>
  database.read((reader) => reader.get<{ value: string }>(`SELECT value FROM settings WHERE name = 'schema_version'`))

/** Opens the file, works on it, and closes it. */
async function on<T>(work: (database: Database) => Promise<T>): Promise<T> {
  const database = openSqlite(path)
  try {
    return await work(database)
  } finally {
    await database.close()
  }
}

const known = migrations.length
const next = known + 1
const addColumn = [...migrations, ['ALTER TABLE users ADD COLUMN shoe_size INTEGER', `UPDATE users SET shoe_size = 42`]]

describe('one market a file', () => {
  test('a second server on the same file is refused, with a sentence that says what to do, and the first goes on', async () => {
    const first = await start()
    await expect(start()).rejects.toThrow(DatabaseInUseError)
    await expect(start()).rejects.toThrow(/another Orbyte server is using .*orbyte\.db: stop it first.*DATABASE_URL/)
    await first.newUser('alice@example.org')
    await first.close()
  })

  test('once it has stopped, another one takes over what it knew', async () => {
    const first = await start()
    const { email } = await first.newUser('alice@example.org')
    await first.close()
    const second = await start()
    expect(
      (await second.call('POST /api/auth/register', { body: { email, password: 'another password' } })).status,
    ).toBe(409)
    await second.close()
  })
})

describe('a file of another version', () => {
  test('that is newer is refused, and left as it was', async () => {
    await on((database) => migrate(database, { backupPath: null, steps: addColumn }))
    await expect(start()).rejects.toThrow(NewerSchemaError)
    await expect(start()).rejects.toThrow(
      new RegExp(`schema version ${next}, and this version of Orbyte knows ${known}: start the newer Orbyte`),
    )
    await on(async (database) => expect(await versionOf(database)).toEqual({ value: String(next) }))
  })

  test('that is older is copied first, then brought up to date', async () => {
    const server = await start()
    const { id } = await server.newUser('alice@example.org')
    await server.close()
    await on((database) => migrate(database, { backupPath: path, steps: addColumn }))
    const sizes = await on((database) => database.read((reader) => reader.all('SELECT id, shoe_size FROM users')))
    expect(sizes).toEqual([{ id, shoe_size: 42 }])
    const { reader, close } = openSqliteReadOnly(`${path}.before-version-${next}`)
    expect(await reader.all('SELECT id FROM users')).toEqual([{ id }])
    await expect(reader.all('SELECT shoe_size FROM users')).rejects.toThrow(/no such column/)
    close()
  })

  test('is as it was after a step that fails, and can be tried again', async () => {
    await on((database) => migrate(database, { backupPath: path }))
    const broken = [...addColumn.slice(0, -1), ['ALTER TABLE users ADD COLUMN shoe_size INTEGER', 'CREATE NONSENSE']]
    for (let tries = 0; tries < 2; tries++)
      await expect(on((database) => migrate(database, { backupPath: path, steps: broken }))).rejects.toThrow(
        /syntax error/,
      )
    await on(async (database) => expect(await versionOf(database)).toEqual({ value: String(known) }))
    await on((database) => migrate(database, { backupPath: path, steps: addColumn }))
    await on(async (database) => expect(await versionOf(database)).toEqual({ value: String(next) }))
  })
})

test('a new file needs no copy, and one that is up to date is not touched', async () => {
  await on(async (database) => {
    await migrate(database, { backupPath: path })
    await migrate(database, { backupPath: path })
  })
  expect(existsSync(`${path}.before-version-${known}`)).toBe(false)
})

/** A file as it was before the step that mentions `what`. */
function migrateUpTo(what: string) {
  const step = migrations.findIndex((statements) => statements.some((sql) => sql.includes(what)))
  return on((database) => migrate(database, { backupPath: null, steps: migrations.slice(0, step) }))
}

test('transfers and events are the same after their tables have changed', async () => {
  await migrateUpTo('lean_transfers')
  const transfer = `INSERT INTO transfers (kind, debit_account, credit_account, amount_micros, idempotency_key, task_id, created_at, leaf_hash)
    VALUES (?, 'external', 'fees', 5, ?, ?, '2026-01-01T00:00:00.000Z', 'hash')`
  const event = `INSERT INTO events (type, at, task_id, user_id, data) VALUES ('task.queued', '2026-01-01T00:00:00.000Z', ?, 'user_a', '{"a":1}')`
  await on((database) =>
    database.transaction(async (tx) => {
      for (const [key, task] of [
        ['deposit:a', null],
        ['hold:task_1', 'task_1'],
        ['settle:task_1', 'task_1'],
      ])
        await tx.run(transfer, task === null ? 'deposit' : 'refund', key!, task!)
      for (const task of ['task_1', 'task_2']) await tx.run(event, task)
    }),
  )
  const transfers = () =>
    on((database) => database.read((reader) => reader.all('SELECT * FROM transfers ORDER BY seq')))
  const before = await transfers()
  await on((database) => migrate(database, { backupPath: null }))
  expect(await transfers()).toEqual(before)
  expect(before.map(({ idempotency_key }) => idempotency_key)).toEqual(['deposit:a', 'hold:task_1', 'settle:task_1'])
  await on(async (database) => {
    const log = createEventLog(manualClock(0))
    expect(await database.read((reader) => log.ofTask(reader, { taskId: 'task_2', after: 0, limit: 9 }))).toMatchObject(
      [{ cursor: 2, type: 'task.queued', user_id: 'user_a', data: { a: 1 } }],
    )
    for (const [key, task] of [
      ['deposit:a', null],
      ['hold:task_1', 'task_1'],
    ])
      await expect(database.transaction((tx) => tx.run(transfer, 'hold', key!, task!))).rejects.toThrow(/UNIQUE/)
  })
})

describe('what is left of holds, kept beside the transfers before', () => {
  const step = migrations.findIndex((statements) => statements.some((sql) => sql.includes('differing_holds')))
  /** For each task what was held, settled and released, as it was kept. */
  const kept: [task: string, held: number, settled: number, released: number][] = [
    ['task_waiting', 100, 0, 0],
    ['task_settled', 100, 30, 70],
    ['task_free', 100, 0, 100],
    ['task_in_review', 100, 0, 60],
    ['task_disputed', 100, 25, 75],
  ]

  /** A file from before, of one renter. */
  async function before(database: Database) {
    await migrate(database, { backupPath: null, steps: migrations.slice(0, step) })
    const ledger = createLedger({ database, clock: manualClock(0) }, ledgerKeyFrom('a secret for tests'))
    const [userId, providerId] = ['user_a', 'user_b']
    const funds = { debit: 'external', credit: available(userId), amount: micros(1_000), key: 'deposit:a' }
    await database.transaction(async (tx) => {
      await ledger.checkKey(tx)
      await ledger.transfer(tx, { kind: 'deposit', ...funds })
      for (const [taskId, amount] of kept) await ledger.hold(tx, { taskId, userId, amount: micros(amount) })
      const settle = (taskId: string, cost: number, reason: string) =>
        ledger.settle(tx, { taskId, providerId, cost: micros(cost), fee: micros(1), reason })
      await settle('task_settled', 30, 'end')
      await ledger.release(tx, { taskId: 'task_free', reason: 'end' })
      for (const taskId of ['task_in_review', 'task_disputed'])
        await ledger.release(tx, { taskId, keep: micros(40), reason: 'end' })
      await settle('task_disputed', 25, 'dispute')
      const refund = { debit: available(providerId), credit: available(userId), amount: micros(5) }
      await ledger.transfer(tx, { kind: 'refund', ...refund, key: 'refund:task_settled:0', taskId: 'task_settled' })
      for (const [task, ...amounts] of kept)
        await tx.run(`INSERT INTO holds VALUES (?, ?, ?, ?, ?, '2026-01-01')`, task, userId, ...amounts)
    })
    return {
      ledger,
      settle: (taskId: string, cost: number) =>
        database.transaction((tx) =>
          ledger.settle(tx, { taskId, providerId, cost: micros(cost), fee: micros(0), reason: 'end' }),
        ),
    }
  }

  test('is what the transfers say, and goes on from there', async () => {
    await on(async (database) => {
      const { ledger, settle } = await before(database)
      await migrate(database, { backupPath: null })
      const left = async (task: string) => (await database.read((reader) => ledger.remainder(reader, task)))?.rest
      for (const [task, ...[amount, settled, released]] of kept)
        expect(await left(task), task).toBe(amount - settled - released)
      await settle('task_waiting', 10)
      await settle('task_in_review', 40)
      await expect(settle('task_settled', 10)).rejects.toThrow(/0 is left/)
      expect(await database.read((reader) => ledger.balanceOf(reader, held('user_a')))).toBe(0)
      expect((await database.read(verifyLedger)).problems).toEqual([])
      await expect(database.read((reader) => reader.all('SELECT * FROM holds'))).rejects.toThrow(/no such table/)
    })
  })

  test.each([
    ['less was released', `UPDATE holds SET released_micros = released_micros - 1 WHERE task_id = 'task_settled'`],
    [
      'it was settled, and not released',
      `UPDATE holds SET settled_micros = 70, released_micros = 30 WHERE task_id = 'task_settled'`,
    ],
    ['less was held', `UPDATE holds SET amount_micros = 99 WHERE task_id = 'task_waiting'`],
    ['another user’s is held', `UPDATE holds SET user_id = 'user_b' WHERE task_id = 'task_waiting'`],
    ['nothing was held', `DELETE FROM holds WHERE task_id = 'task_waiting'`],
    ['something was held', `INSERT INTO holds VALUES ('task_other', 'user_a', 1, 0, 0, '')`],
    ['it was held for no task', `UPDATE transfers SET task_id = NULL WHERE idempotency_key = 'hold:task_waiting'`],
  ])('is not thrown away where the transfers say something else: %s', async (_what, sql) => {
    await on(async (database) => {
      await before(database)
      await database.transaction((tx) => tx.run(sql))
      await expect(migrate(database, { backupPath: null })).rejects.toThrow(
        /^the hold of (task_\w+|no task) is not what its transfers say: .* is left as it was.*orbyte ledger verify.*orbyte restore/,
      )
      expect(await versionOf(database)).toEqual({ value: String(step) })
      expect(await database.read((reader) => reader.all('SELECT * FROM holds'))).not.toEqual([])
    })
  })
})

test('what is known of how GPUs have done stays with them, and goes on from there', async () => {
  await migrateUpTo('gpu_standings')
  const gpu = `INSERT INTO gpus (id, owner_id, kind, name, model, vram_gb, registered_model, registered_vram_gb, price_micros_per_hour,
      created_at, deleted_at, tasks_completed, tasks_failed, failures_in_a_row, cool_down_until, tasks_slow, audits_passed,
      audits_failed, audits_in_a_row, audited_at)
    VALUES (?1, 'user_a', 'gpu', 'one', 'RTX 4090', 24, 'RTX 4090', 24, 5, '2026-01-01T00:00:00.000Z', ?2, ?3, 2, 3,
      '2026-01-01T00:00:04.000Z', 5, 6, 7, 8, '2026-01-01T00:00:09.000Z')`
  await on((database) =>
    database.transaction(async (tx) => {
      for (const [id, deletedAt, completed] of [
        ['gpu_1', null, 1],
        ['gpu_2', null, 1_000],
        ['gpu_3', '2026-01-02T00:00:00.000Z', 10],
      ] as const)
        await tx.run(gpu, id, deletedAt, completed)
    }),
  )
  await on((database) => migrate(database, { backupPath: null }))
  const startMs = Date.parse('2026-01-01T00:00:00.000Z')
  const kept = {
    ...{ model: 'RTX 4090', vramGb: 24, priceMicrosPerHour: 5, tasksFailed: 2, failuresInARow: 3, tasksSlow: 5 },
    ...{ coolDownUntilMs: startMs + 4_000, auditsPassed: 6, auditsFailed: 7, auditsInARow: 8 },
    auditedAtMs: startMs + 9_000,
  }
  await on(async (database) => {
    const read = (id: string) => database.read((reader) => readGpu(reader, id))
    expect(await read('gpu_1')).toMatchObject({ ...kept, tasksCompleted: 1 })
    expect(await read('gpu_2')).toMatchObject({ ...kept, tasksCompleted: 1_000 })
    expect(await read('gpu_3')).toBeNull()
    await database.transaction((tx) => countCompletedAttempt(tx, 'gpu_2'))
    const good = { tasksCompleted: 1_001, failuresInARow: 0, coolDownUntilMs: 0 }
    expect(await read('gpu_2')).toMatchObject({ ...kept, ...good })
    expect(await read('gpu_1')).toMatchObject(kept)
  })
})

test('whoever owned something still has it listed, the newest first, what was not in the index yet too', async () => {
  await migrateUpTo('lean_owned')
  const { paymentsOfPayer } = ownedRows
  const [indexed, all] = [720, 800]
  // The first two end alike.
  const payers = ['user_a-123456', 'user_b-123456', 'user_c-654321', 'user_d-000000'] as const
  const payerOf = (row: number) => (row === 7 ? payers[1] : row % 3 === 0 ? payers[2] : payers[0])
  const payment = `INSERT INTO payments (id, task_id, attempt_id, gpu_id, payer_id, recipient_id, amount_micros, fee_micros, status,
      run_ms, price_micros_per_hour, created_at)
    VALUES (?1, ?1, 'att_1', 'gpu_1', ?2, 'user_r', 1, 0, 'completed', 1, 1, '2026-01-01T00:00:00.000Z')`
  const index = `INSERT INTO owned (list, owner, row) SELECT ?1, substr(payer_id, -6), rowid FROM payments WHERE rowid <= ?2`
  await on((database) =>
    database.transaction(async (tx) => {
      for (let row = 1; row <= all; row++) await tx.run(payment, `pay_${row}`, payerOf(row))
      await tx.run(index, paymentsOfPayer.number, indexed)
      await tx.run('INSERT INTO owned_up_to (list, row) VALUES (?, ?)', paymentsOfPayer.number, indexed)
    }),
  )
  await on((database) => migrate(database, { backupPath: null }))
  await on(async (database) => {
    const listed = (payer: string, before: number) =>
      database.read((reader) =>
        readOwned<{ row: number }>(reader, {
          ...{ list: paymentsOfPayer, select: 't.rowid AS row', owner: '?1', before: '?2', where: 'payer_id = ?1' },
          ...{ params: [payer, before], limit: all },
        }),
      )
    async function expectAllListed() {
      for (const before of [all + 1, 500])
        for (const payer of payers) {
          const rows = Array.from({ length: before - 1 }, (_, place) => ({ row: before - 1 - place }))
          expect(await listed(payer, before)).toEqual(rows.filter(({ row }) => payerOf(row) === payer))
        }
    }
    await expectAllListed()
    const behind = async () => (await database.read(ownedBehind)).filter(({ list }) => list === paymentsOfPayer.number)
    expect(await behind()).toEqual([{ list: paymentsOfPayer.number, from: indexed, last: all }])
    while ((await behind()).length > 0) await database.transaction((tx) => indexOwned(tx, 30))
    await expectAllListed()
    const most = await database.read((reader) =>
      reader.get('SELECT max(json_array_length(offsets)) AS most FROM owned WHERE list = ?', paymentsOfPayer.number),
    )
    expect(most).toEqual({ most: 100 })
  })
})
