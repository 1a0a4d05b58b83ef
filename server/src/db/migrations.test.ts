import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { createEventLog } from '../event-store.ts'
import { startTestServer } from '../fixture-server.ts'
import { manualClock } from '../manual-clock.ts'
import { paymentOfTask } from '../payments/payment-store.ts'
import { type Database, DatabaseInUseError, type Value } from './database.ts'
import { migrate, migrations, NewerSchemaError } from './migrations.ts'
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

test('transfers and events are the same after their tables have changed', async () => {
  const step = migrations.findIndex((statements) => statements.some((sql) => sql.includes('lean_transfers')))
  await on((database) => migrate(database, { backupPath: null, steps: migrations.slice(0, step) }))
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
        await tx.run(transfer, task === null ? 'deposit' : 'hold', key!, task!)
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

/** Rows as the step before the one that made tasks lean has them: each kind of task that there may be. */
const at = (minute: number) => `2026-01-01T00:${String(minute).padStart(2, '0')}:00.000Z`
const endOf = (code: string) => ({ end_code: code, end_message: `It was ${code}.`, end_decided_by: 'agent' })
const oldTask = (id: string, status: string, more: object = {}) => ({
  ...{
    id,
    renter_id: 'user_renter',
    title: null,
    task_type: 'other',
    status,
    input_data: '{}',
    input_bytes: 2,
    output_data: null,
  },
  ...{
    requirements: '{}',
    model: null,
    max_price_micros_per_hour: 9,
    max_duration_ms: 5,
    max_wait_ms: 5,
    auto_pay: 1,
    priority: 5,
  },
  ...{
    hold_micros: 9,
    cost_micros: null,
    run_ms: 0,
    attempts_count: 0,
    attempt_id: null,
    gpu_id: null,
    end_code: null,
  },
  ...{
    end_message: null,
    end_decided_by: null,
    created_at: at(0),
    updated_at: at(0),
    started_at: null,
    completed_at: null,
  },
  ...{ data_deleted_at: null, allow_reexecution: 0, reexecution: null, ...more },
})
const oldAttempt = (id: string, [task_id, number]: [string, number], more: object = {}) => ({
  ...{
    id,
    task_id,
    gpu_id: `gpu_of_${id}`,
    agent_id: 'agent_a',
    provider_id: 'user_owner',
    number,
    fencing_token: `token of ${id}`,
  },
  ...{
    status: 'running',
    progress: null,
    price_micros_per_hour: 8,
    run_ms: 0,
    cost_micros: 0,
    output_length: 3,
    output_bytes: 4,
  },
  ...{ log_lines: 2, end_code: null, end_message: null, end_decided_by: null, offered_at: at(1), accepted_at: at(2) },
  ...{ ready_at: at(3), ended_at: null, trial: 0, expected_run_ms: 7, slow: 1, ...more },
})
const oldPayment = (id: string, task_id: string, more: object) => ({
  ...{ id, task_id, attempt_id: 'att_2', gpu_id: 'gpu_of_att_2', payer_id: 'user_renter', recipient_id: 'user_owner' },
  ...{ amount_micros: 6, fee_micros: 1, refunded_micros: 0, status: 'completed', run_ms: 4, price_micros_per_hour: 8 },
  ...{ transaction_hash: 'hash', review_until: null, created_at: at(6), settled_at: at(6), ...more },
})
const begun = (attempt: string, more: object = {}) => ({
  ...{
    attempt_id: attempt,
    gpu_id: `gpu_of_${attempt}`,
    attempts_count: 1,
    started_at: at(3),
    updated_at: at(3),
    ...more,
  },
})
const ended = (code: string) => ({ ...endOf(code), cost_micros: 0, completed_at: at(6), updated_at: at(6) })
const failed = { status: 'failed', ...endOf('crash'), ended_at: at(4) }
const paid = { ...endOf('completed'), run_ms: 4, cost_micros: 6 }
const leanRows = {
  tasks: [
    oldTask('task_waits', 'pending'),
    oldTask('task_refused', 'pending'),
    oldTask('task_begun', 'running', begun('att_6', { started_at: null, updated_at: at(2) })),
    oldTask('task_runs', 'running', begun('att_3')),
    oldTask('task_again', 'pending', begun('att_4', { attempt_id: null, gpu_id: null, updated_at: at(4) })),
    oldTask('task_done', 'completed', { ...begun('att_2'), ...ended('completed'), ...paid, attempts_count: 2 }),
    oldTask('task_lost', 'failed', { ...begun('att_5'), ...ended('attempts_exhausted') }),
    oldTask('task_deleted', 'cancelled', {
      ...ended('cancelled'),
      ...{ input_data: null, data_deleted_at: at(9), updated_at: at(9), task_type: 'image_generation' },
    }),
    oldTask('task_review', 'completed', { ...begun('att_7'), ...ended('completed'), ...paid }),
  ],
  attempts: [
    oldAttempt('att_1', ['task_done', 1], failed),
    oldAttempt('att_0', ['task_refused', 1], {
      ...{ status: 'refused', ...endOf('busy'), accepted_at: null, ready_at: null, ended_at: at(2) },
    }),
    oldAttempt('att_3', ['task_runs', 1], { run_ms: 2 }),
    oldAttempt('att_6', ['task_begun', 1], { status: 'preparing', progress: '5 %', ready_at: null }),
    oldAttempt('att_2', ['task_done', 2], { status: 'completed', ...paid, ready_at: at(5), ended_at: at(6) }),
    oldAttempt('att_4', ['task_again', 1], failed),
    oldAttempt('att_5', ['task_lost', 1], { status: 'lost', ...endOf('agent_lost'), ended_at: at(6) }),
    oldAttempt('att_7', ['task_review', 1], { status: 'completed', ...paid, ended_at: at(6) }),
  ],
  payments: [
    oldPayment('pay_own', 'task_done', {}),
    oldPayment('pay_other', 'task_review', {
      attempt_id: 'att_7',
      status: 'pending',
      settled_at: null,
      review_until: at(7),
    }),
  ],
  attempt_gpus: [0, 1].map((place) => ({
    ...{
      attempt_id: 'att_7',
      place,
      gpu_id: `gpu_of_att_${7 + place}`,
      milli: 1000,
      vram_gb: null,
      price_micros_per_hour: 4,
    },
  })),
}

test('tasks, attempts and payments are the same after their tables have become lean', async () => {
  const step = migrations.findIndex((statements) => statements.some((sql) => sql.includes('lean_tasks')))
  await on((database) => migrate(database, { backupPath: null, steps: migrations.slice(0, step) }))
  await on((database) =>
    database.transaction(async (tx) => {
      for (const [table, rows] of Object.entries(leanRows))
        for (const row of rows) {
          const names = Object.keys(row)
          const sql = `INSERT INTO ${table} (${names.join(', ')}) VALUES (${names.map(() => '?').join(', ')})`
          await tx.run(sql, ...(Object.values(row) as Value[]))
        }
    }),
  )
  await on((database) => migrate(database, { backupPath: null }))
  await on((database) =>
    database.read(async (reader) => {
      const states = { tasks: 'task_states', attempts: 'attempt_states', payments: 'payments' }
      for (const [table, state] of Object.entries(states)) {
        const rows = leanRows[table as keyof typeof states]
        const found = await reader.all(`SELECT row, ${Object.keys(rows[0]!).join(', ')} FROM ${state} ORDER BY row`)
        expect(found).toEqual(rows.map((row, index) => ({ row: index + 1, ...row })))
      }
      expect(await reader.all('SELECT * FROM attempt_gpus')).toEqual(
        leanRows.attempt_gpus.map((row) => ({ ...row, task_id: 'task_review' })),
      )
      expect(await reader.all('SELECT id FROM open_attempts ORDER BY id')).toEqual([{ id: 'att_3' }, { id: 'att_6' }])
      expect(await reader.all('PRAGMA integrity_check')).toEqual([{ integrity_check: 'ok' }])
      for (const { id, task_id } of leanRows.payments)
        expect(await paymentOfTask(reader, task_id)).toMatchObject({ id })
    }),
  )
  const another = `INSERT INTO payments (id, task_id, attempt_id, gpu_id, payer_id, recipient_id, amount_micros, fee_micros, status, run_ms,
      price_micros_per_hour, created_at)
    SELECT 'pay_another', task_id, attempt_id, gpu_id, payer_id, recipient_id, 1, 0, status, 1, 1, created_at FROM payments WHERE id = 'pay_own'`
  await expect(on((database) => database.transaction((tx) => tx.run(another)))).rejects.toThrow(/UNIQUE/)
})
