import { copyFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { DatabaseSync } from '@photostructure/sqlite'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { brokenPromises } from './chaos-promises.ts'
import { type ChaosReport, runChaos } from './chaos-run.ts'

let report: ChaosReport
beforeAll(async () => {
  report = await runChaos({ seed: 1, seconds: 25, timeScale: 0.05, agents: 3, keep: true })
}, 240_000)
afterAll(() => rm(report.folder, { recursive: true, force: true }))

test('what was killed, frozen and cut off for a while keeps every promise', () => {
  expect(report.violations).toEqual([])
  expect(report.kills).toBeGreaterThan(0)
  expect(report.stops).toBeGreaterThan(0)
  expect(report.cuts).toBeGreaterThan(0)
  expect(report.ends['completed (completed)']).toBeGreaterThan(10)
})

/** What is done to the file, and the promise that it breaks. The first completed task is `t`. */
const damages = [
  ['UPDATE accounts SET balance_micros = balance_micros + 1 WHERE id = (SELECT min(id) FROM accounts)', 'ledger:'],
  [`UPDATE tasks SET status = 'running' WHERE id = t`, 'has not ended'],
  ['UPDATE tasks SET end_message = NULL WHERE id = t', 'without a reason'],
  ['UPDATE tasks SET attempts_count = 4 WHERE id = t', 'was tried 4 times'],
  ['UPDATE attempts SET ended_at = NULL WHERE task_id = t', 'has not ended'],
  [
    `UPDATE attempts SET ended_at = '2999-01-01T00:00:00.000Z'
     WHERE id = (SELECT id FROM attempts WHERE accepted_at IS NOT NULL ORDER BY accepted_at LIMIT 1)`,
    / had att\w+ until 2999/,
  ],
  ['UPDATE payments SET amount_micros = amount_micros + 1 WHERE task_id = t', 'was paid'],
  ['DELETE FROM payments WHERE task_id = t', 'and 0 was paid'],
  ['UPDATE tasks SET hold_micros = 0 WHERE id = t', 'that were held'],
  ['UPDATE attempts SET ready_at = NULL WHERE task_id = t', 'was never ready'],
  ['UPDATE tasks SET run_ms = run_ms + 600000 WHERE id = t', 'was charged for'],
  [`UPDATE payments SET status = 'pending' WHERE task_id = t`, 'is pending'],
  ['UPDATE holds SET released_micros = released_micros - 1 WHERE task_id = t AND released_micros > 0', 'is not closed'],
  ['DELETE FROM tasks WHERE id = t', 'was acknowledged as'],
  [`UPDATE tasks SET output_data = '{"text":"other"}' WHERE id = t`, 'another output'],
  [`DELETE FROM events WHERE task_id = t AND type = 'task.completed'`, 'heard no end'],
  [
    `INSERT INTO events (type, at, task_id, data) VALUES ('task.requeued', '2999-01-01T00:00:00.000Z', t, '{}')`,
    'went on after its end',
  ],
] as const

test.for(damages)('%s would be found', async ([sql, expected]) => {
  const path = join(report.folder, 'damaged.db')
  await copyFile(join(report.folder, 'orbyte.db'), path)
  const database = new DatabaseSync(path)
  const { id } = database
    .prepare(`SELECT id FROM tasks WHERE end_code = 'completed' AND cost_micros > 0 ORDER BY id`)
    .get() as {
    id: string
  }
  database.exec(sql.replaceAll(/(?<== |, )t\b/g, `'${id}'`))
  database.close()
  const found = await brokenPromises(path, report.submissions)
  await rm(path)
  expect(found).toContainEqual(expect.stringMatching(expected))
})
