import { copyFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { DatabaseSync } from '@photostructure/sqlite'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { brokenPromises } from './chaos-promises.ts'
import type { Submission } from './chaos-renter.ts'
import { type ChaosReport, runChaos } from './chaos-run.ts'

let report: ChaosReport
let path: string
beforeAll(async () => {
  report = await runChaos({ seed: 1, seconds: 15, timeScale: 0.03, agents: 3 })
  path = join(report.folder, 'orbyte.db')
}, 240_000)
afterAll(() => rm(report.folder, { recursive: true, force: true }))

test('what was killed, frozen and cut off for a while keeps every promise', () => {
  expect(report.violations).toEqual([])
  for (const count of [report.kills, report.stops, report.cuts]) expect(count).toBeGreaterThan(0)
  expect(report.taskEnds['completed (completed)']).toBeGreaterThan(0)
})

/** One more attempt at `t`, on another GPU, at the same time as the one that completed it. */
const another = (id: string) =>
  `INSERT INTO attempts (id, task_id, gpu_id, agent_id, provider_id, number, fencing_token, status, price_micros_per_hour, trial,
     end_code, offered_at, accepted_at, ended_at)
   SELECT ${id}, task_id, 'gpu_other', agent_id, provider_id, 9, '', 'lost', 1, 0, 'agent_lost', offered_at, accepted_at, ended_at
   FROM attempt_states WHERE task_id = t AND status = 'completed'`

/** A broken promise, and what is done to the file to break it. The first completed task is `t`. */
const damages = [
  ['ledger:', 'UPDATE accounts SET balance_micros = balance_micros + 1 WHERE id = (SELECT min(id) FROM accounts)'],
  [/^task_\w+ has not ended/, `UPDATE tasks SET status = 'open', completed_at = NULL WHERE id = t`],
  [/^att_\w+ has not ended/, `UPDATE tasks SET status = 'open', completed_at = NULL WHERE id = t`],
  [/^task_\w+ ended without a reason/, 'UPDATE tasks SET end_message = NULL WHERE id = t'],
  [/^att_\w+ ended without a reason/, 'UPDATE tasks SET end_decided_by = NULL WHERE id = t'],
  [/was tried \d+ times/, ['a', 'b', 'c'].map((name) => another(`'att_${name}'`)).join('; ')],
  [
    /^gpu_\w+ had an attempt until 2999/,
    `UPDATE attempts SET ended_at = '2999-01-01T00:00:00.000Z'
     WHERE id = (SELECT id FROM attempts WHERE accepted_at IS NOT NULL ORDER BY accepted_at LIMIT 1)`,
  ],
  [/^task_\w+ had an attempt until/, another(`'att_second'`)],
  [/ cost \d+, and \d+ was paid/, 'UPDATE payments SET amount_micros = amount_micros + 1 WHERE task_id = t'],
  ['is not what was transferred', 'UPDATE payments SET amount_micros = amount_micros + 1 WHERE task_id = t'],
  ['and 0 was paid', 'DELETE FROM payments WHERE task_id = t'],
  ['was charged and not paid for', 'DELETE FROM payments WHERE task_id = t'],
  ['is pending', `UPDATE payments SET status = 'pending' WHERE task_id = t`],
  ['is for an attempt of another task', `UPDATE payments SET attempt_id = 'att_other' WHERE task_id = t`],
  ['that were held', 'UPDATE tasks SET hold_micros = 0 WHERE id = t'],
  ['is not closed', `UPDATE transfers SET amount_micros = amount_micros - 1 WHERE task_id = t AND kind = 'release'`],
  ['ran and cost nothing', 'UPDATE tasks SET cost_micros = 0 WHERE id = t'],
  ['was never ready', 'UPDATE attempts SET ready_at = NULL WHERE task_id = t'],
  ['was charged for', 'UPDATE tasks SET run_ms = run_ms + 600000 WHERE id = t'],
  ['of its GPU', 'UPDATE tasks SET cost_micros = cost_micros + 2 WHERE id = t'],
  ['was acknowledged as', 'DELETE FROM tasks WHERE id = t'],
  ['another output', `UPDATE tasks SET output_data = '{"text":"other"}' WHERE id = t`],
  ['streamed another text', `UPDATE tasks SET output_data = '{"text":"other"}' WHERE id = t`],
  ['hear no end', `DELETE FROM events WHERE task_id = t AND type = 'task.completed'`],
  ['went on after its end', `INSERT INTO events (type, at, task_id, data) VALUES ('task.requeued', '', t, '{}')`],
] as const

test.for(damages)('"%s" is found', async ([expected, sql]) => {
  await damage(sql)
  const found = await brokenPromises(`${path}.damaged`, report.submissions)
  expect(found.filter((sentence) => sentence.match(expected))).not.toEqual([])
})

/** A broken promise, and what the renter of `t` was told to break it. */
const lies: [string, Partial<Submission>][] = [
  ['was acknowledged as task_other', { taskId: 'task_other' }],
  ['was refused (no_gpu_fits) and is there', { refusedWith: 'no_gpu_fits' }],
  ['was cancelled for its renter', { isCancelled: true }],
  ['its work fails (crash)', { failsWith: 'crash' }],
  ['heard 1 task.queued, and what is kept is', { heard: ['1 task.queued'] }],
]

test.for(lies)('"%s" is found', async ([expected, told]) => {
  const taskId = await damage('')
  const submissions = report.submissions.map((submission) =>
    submission.taskId === taskId ? { ...submission, ...told } : submission,
  )
  expect((await brokenPromises(`${path}.damaged`, submissions)).join()).toContain(expected)
})

/** Changes a copy of the file behind the market's back. Resolves with the id of `t`. */
async function damage(sql: string): Promise<string> {
  await copyFile(path, `${path}.damaged`)
  const database = new DatabaseSync(`${path}.damaged`)
  const { id } = database
    .prepare(`SELECT id FROM tasks WHERE status = 'completed' AND cost_micros > 0 ORDER BY id`)
    .get() as { id: string }
  database.exec(sql.replaceAll(/(?<== |, )t\b/g, `'${id}'`))
  database.close()
  return id
}
