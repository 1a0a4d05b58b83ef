import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { paymentOfTask } from '../payments/payment-store.ts'
import type { Database, Value } from './database.ts'
import { migrate } from './migrations.ts'
import { migrations } from './schema-steps.ts'
import { openSqlite } from './sqlite-database.ts'

let folder: string
let database: Database
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'orbyte-lean-'))
  database = openSqlite(join(folder, 'orbyte.db'))
})
afterEach(async () => {
  await database.close()
  rmSync(folder, { recursive: true, force: true })
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
  await migrate(database, { backupPath: null, steps: migrations.slice(0, step) })
  await database.transaction(async (tx) => {
    for (const [table, rows] of Object.entries(leanRows))
      for (const row of rows) {
        const names = Object.keys(row)
        const sql = `INSERT INTO ${table} (${names.join(', ')}) VALUES (${names.map(() => '?').join(', ')})`
        await tx.run(sql, ...(Object.values(row) as Value[]))
      }
  })
  await migrate(database, { backupPath: null })
  await database.read(async (reader) => {
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
    for (const { id, task_id } of leanRows.payments) expect(await paymentOfTask(reader, task_id)).toMatchObject({ id })
  })
  const another = `INSERT INTO payments (id, task_id, attempt_id, gpu_id, payer_id, recipient_id, amount_micros, fee_micros, status, run_ms,
      price_micros_per_hour, created_at)
    SELECT 'pay_another', task_id, attempt_id, gpu_id, payer_id, recipient_id, 1, 0, status, 1, 1, created_at FROM payments WHERE id = 'pay_own'`
  await expect(database.transaction((tx) => tx.run(another))).rejects.toThrow(/UNIQUE/)
})
