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

/** What is done to the file, and the promise that it breaks. The first completed task is `t`. */
const damages = [
  ['UPDATE accounts SET balance_micros = balance_micros + 1 WHERE id = (SELECT min(id) FROM accounts)', 'ledger:'],
  [`UPDATE tasks SET status = 'running' WHERE id = t`, 'has not ended'],
  ['UPDATE tasks SET end_message = NULL WHERE id = t', 'without a reason'],
  ['UPDATE attempts SET end_decided_by = NULL WHERE task_id = t', 'without a reason'],
  ['UPDATE tasks SET attempts_count = 4 WHERE id = t', 'was tried 4 times'],
  ['UPDATE attempts SET ended_at = NULL WHERE task_id = t', 'has not ended'],
  [
    `UPDATE attempts SET ended_at = '2999-01-01T00:00:00.000Z'
     WHERE id = (SELECT id FROM attempts WHERE accepted_at IS NOT NULL ORDER BY accepted_at LIMIT 1)`,
    /^gpu_\w+ had an attempt until 2999/,
  ],
  [
    `INSERT INTO attempts (id, task_id, gpu_id, agent_id, provider_id, number, fencing_token, status, price_micros_per_hour,
       offered_at, accepted_at, ended_at) SELECT 'att_second', task_id, 'gpu_other', agent_id, provider_id, 2, '', 'lost', 1,
       offered_at, accepted_at, ended_at FROM attempts WHERE task_id = t`,
    /^task_\w+ had an attempt until/,
  ],
  ['UPDATE payments SET amount_micros = amount_micros + 1 WHERE task_id = t', 'was paid'],
  ['UPDATE payments SET amount_micros = amount_micros + 1 WHERE task_id = t', 'is not what was transferred'],
  ['DELETE FROM payments WHERE task_id = t', 'and 0 was paid'],
  ['DELETE FROM payments WHERE task_id = t', 'was charged and not paid for'],
  [`UPDATE payments SET status = 'pending' WHERE task_id = t`, 'is pending'],
  [`UPDATE payments SET attempt_id = 'att_other' WHERE task_id = t`, 'is for an attempt of another task'],
  ['UPDATE tasks SET hold_micros = 0 WHERE id = t', 'that were held'],
  ['UPDATE holds SET released_micros = released_micros - 1 WHERE task_id = t AND released_micros > 0', 'is not closed'],
  ['UPDATE tasks SET cost_micros = 0 WHERE id = t', 'ran and cost nothing'],
  ['UPDATE attempts SET ready_at = NULL WHERE task_id = t', 'was never ready'],
  ['UPDATE tasks SET run_ms = run_ms + 600000 WHERE id = t', 'was charged for'],
  ['UPDATE attempts SET cost_micros = cost_micros + 2 WHERE task_id = t', 'of its GPU'],
  ['DELETE FROM tasks WHERE id = t', 'was acknowledged as'],
  [`UPDATE tasks SET output_data = '{"text":"other"}' WHERE id = t`, 'another output'],
  [`UPDATE tasks SET output_data = '{"text":"other"}' WHERE id = t`, 'streamed another text'],
  [`DELETE FROM events WHERE task_id = t AND type = 'task.completed'`, 'hear no end'],
  [
    `INSERT INTO events (type, at, task_id, data) VALUES ('task.requeued', '2999-01-01T00:00:00.000Z', t, '{}')`,
    'went on after its end',
  ],
] as const

test.for(damages)('%s would be found: %s', async ([sql, expected]) => {
  await damage(sql)
  const found = await brokenPromises(`${path}.damaged`, report.submissions)
  expect(found.filter((sentence) => sentence.match(expected))).not.toEqual([])
})

/** What the renter of `t` could have been told, and is not so. */
const lies: [Partial<Submission>, string][] = [
  [{ taskId: 'task_other' }, 'was acknowledged as task_other'],
  [{ refusedWith: 'no_gpu_fits' }, 'was refused (no_gpu_fits) and is there'],
  [{ isCancelled: true }, 'was cancelled for its renter'],
  [{ failsWith: 'crash' }, 'its work fails (crash)'],
  [{ heard: ['1 task.queued'] }, 'heard 1 task.queued, and what is kept is'],
]

test.for(lies)('that a renter was told %o would be found: %s', async ([told, expected]) => {
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
    .prepare(`SELECT id FROM tasks WHERE end_code = 'completed' AND cost_micros > 0 ORDER BY id`)
    .get() as { id: string }
  database.exec(sql.replaceAll(/(?<== |, )t\b/g, `'${id}'`))
  database.close()
  return id
}
