import { DatabaseSync } from '@photostructure/sqlite'
import { type EventRow, eventsOfRow, type StoredEvent } from '@orbyte/server/event-store.ts'
import { verifyLedgerFile } from '@orbyte/server/ledger/ledger-verify.ts'
import type { Submission } from './chaos-renter.ts'

type TaskRow = { id: string; title: string; status: string; output_data: string | null }

/**
 * Holds a market's file, which nobody has open, against what Orbyte promises and against what its renters were told, once all
 * has ended and all is paid. Each sentence is a broken promise.
 */
export async function brokenPromises(path: string, submissions: readonly Submission[]): Promise<string[]> {
  const { problems } = await verifyLedgerFile(path)
  const database = new DatabaseSync(path, { readOnly: true })
  const all = <Row>(sql: string) => database.prepare(sql).all() as Row[]
  try {
    const found = neverFound.flatMap((sql) => all<{ problem: string }>(sql).map(({ problem }) => problem))
    const tasks = all<TaskRow>('SELECT id, title, status, output_data FROM task_states')
    const events = new Map<string, StoredEvent[]>(tasks.map(({ id }) => [id, []]))
    for (const row of all<EventRow>('SELECT * FROM events WHERE task_id IS NOT NULL ORDER BY cursor'))
      events.get(row.task_id!)?.push(...eventsOfRow(row))
    return [
      ...problems.map((problem) => `ledger: ${problem}`),
      ...found,
      ...submissions.flatMap((submission) => submissionProblems(submission, { tasks, events })),
      ...tasks.flatMap((task) => eventProblems(task, events.get(task.id)!)),
    ]
  } finally {
    database.close()
  }
}

const msBetween = (from: string, to: string) =>
  `round(1000 * (unixepoch(${to}, 'subsec') - unixepoch(${from}, 'subsec')))`
const isUnexplained = 'end_code IS NULL OR end_message IS NULL OR end_decided_by IS NULL'
/** Attempts that were accepted while another one for the same GPU, or the same task, had not ended. */
const overlaps = (by: 'gpu_id' | 'task_id') =>
  `SELECT ${by} || ' had an attempt until ' || until || ' and ' || id || ' from ' || accepted_at AS problem FROM (
    SELECT *, max(coalesce(ended_at, '9')) OVER
      (PARTITION BY ${by} ORDER BY accepted_at, id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS until
    FROM attempt_states WHERE accepted_at IS NOT NULL)
  WHERE accepted_at < until`

/** Each finds what must not be there, and says it in a sentence. */
const neverFound = [
  `SELECT 'the file: ' || integrity_check AS problem FROM pragma_integrity_check WHERE integrity_check <> 'ok'`,

  // Everything ends, with a reason.
  `SELECT id || ' has not ended: it is ' || status AS problem FROM task_states
   WHERE status NOT IN ('completed', 'failed', 'cancelled')`,
  `SELECT id || ' has not ended: it is ' || status AS problem FROM attempt_states WHERE ended_at IS NULL`,
  `SELECT id || ' ended without a reason' AS problem FROM tasks WHERE ${isUnexplained}`,
  `SELECT id || ' ended without a reason' AS problem FROM attempt_states WHERE ${isUnexplained}`,
  `SELECT id || ' was tried ' || attempts_count || ' times' AS problem FROM task_states WHERE attempts_count > 3`,

  // A GPU is never sold twice; a task runs in one place.
  overlaps('gpu_id'),
  overlaps('task_id'),

  // A task is paid at most once, what it cost, by the attempt that did it, and never more than was held.
  `SELECT t.id || ' cost ' || coalesce(cost_micros, 0) || ', and ' || coalesce(sum(amount_micros), 0) || ' was paid' AS problem
   FROM tasks t LEFT JOIN payments p ON p.task_id = t.id
   GROUP BY t.id HAVING coalesce(cost_micros, 0) <> coalesce(sum(amount_micros), 0) OR count(p.id) > 1`,
  `SELECT p.id || ' of ' || amount_micros || ' is not what was transferred for ' || p.task_id AS problem FROM payments p
   WHERE amount_micros <> (SELECT sum(amount_micros) FROM transfers WHERE task_id = p.task_id AND kind IN ('settlement', 'fee'))`,
  `SELECT p.id || ' is ' || p.status AS problem FROM payments p WHERE p.status <> 'completed'`,
  `SELECT p.id || ' is for an attempt of another task' AS problem
   FROM payments p LEFT JOIN attempts a ON a.id = p.attempt_id WHERE a.task_id IS NOT p.task_id`,
  `SELECT a.id || ' was charged and not paid for' AS problem
   FROM attempt_states a LEFT JOIN payments p ON p.attempt_id = a.id WHERE a.cost_micros <> coalesce(p.amount_micros, 0)`,
  `SELECT id || ' cost ' || cost_micros || ' of the ' || hold_micros || ' that were held' AS problem FROM tasks
   WHERE cost_micros > hold_micros`,
  `SELECT 'the hold of ' || t.id || ' is not closed' AS problem FROM tasks t LEFT JOIN (
     SELECT task_id, sum(iif(kind = 'hold', amount_micros, -amount_micros)) AS rest,
       sum(iif(kind IN ('settlement', 'fee'), amount_micros, 0)) AS settled
     FROM transfers WHERE kind IN ('hold', 'settlement', 'fee', 'release') GROUP BY task_id) h ON h.task_id = t.id
   WHERE h.settled IS NOT coalesce(t.cost_micros, 0) OR h.rest <> 0`,

  // No evidence, no charge.
  `SELECT id || ' ran and cost nothing' AS problem FROM tasks
   WHERE status = 'completed' AND run_ms > 0 AND coalesce(cost_micros, 0) = 0`,
  `SELECT id || ' was charged and was never ready' AS problem FROM attempt_states WHERE cost_micros > 0 AND ready_at IS NULL`,
  `SELECT t.id || ' was charged for ' || t.run_ms || ' ms of ' || ${msBetween('ready_at', 'ended_at')} AS problem
   FROM payments p JOIN tasks t ON t.id = p.task_id JOIN attempt_states a ON a.task_id = t.id AND a.id = p.attempt_id
   WHERE t.run_ms > min(${msBetween('ready_at', 'ended_at')}, max_duration_ms)`,
  `SELECT a.id || ' cost ' || a.cost_micros || ', more than ' || t.run_ms || ' ms of its GPU' AS problem
   FROM payments p JOIN tasks t ON t.id = p.task_id JOIN attempt_states a ON a.task_id = t.id AND a.id = p.attempt_id
   WHERE a.cost_micros > (t.run_ms * a.price_micros_per_hour + 3599999) / 3600000
      OR a.price_micros_per_hour > t.max_price_micros_per_hour`,
]

type Kept = { tasks: readonly TaskRow[]; events: ReadonlyMap<string, readonly StoredEvent[]> }

/** What was acknowledged is durable, and what was told is so. */
function submissionProblems(submission: Submission, { tasks, events }: Kept): string[] {
  const { title, taskId, refusedWith, isCancelled, failsWith, output, heard } = submission
  const own = tasks.filter((task) => task.title === title)
  const [task] = own
  const problems: string[] = []
  if (own.length > 1) problems.push(`${title} was submitted once and is there ${own.length} times`)
  if (taskId !== null && task?.id !== taskId)
    problems.push(`${title} was acknowledged as ${taskId} and is ${task?.id ?? 'gone'}`)
  if (refusedWith !== null && task) problems.push(`${title} was refused (${refusedWith}) and is there`)
  if (!task) return problems
  if (isCancelled && task.status !== 'cancelled')
    problems.push(`${task.id} was cancelled for its renter and is ${task.status}`)
  if (task.status === 'completed') {
    if (failsWith !== null) problems.push(`${task.id} is completed, and its work fails (${failsWith})`)
    if (textOf(task) !== output) problems.push(`${task.id} is completed with another output than its own`)
  }
  if (heard === null) return problems
  const kept = events.get(task.id)!
  const toHear = kept.slice(0, kept.findIndex(isEnd) + 1).map(({ cursor, type }) => `${cursor} ${type}`)
  if (heard.join() !== toHear.join())
    problems.push(`who watched ${task.id} heard ${heard.join()}, and what is kept is ${toHear.join()}`)
  return problems
}

const isEnd = ({ type }: StoredEvent) => /^task\.(completed|failed|cancelled)$/.test(type)

/** Its watchers can hear one end, nothing after it, and the text that it has put out. */
function eventProblems(task: TaskRow, events: readonly StoredEvent[]): string[] {
  const problems: string[] = []
  const ends = events.filter(isEnd).map(({ type }) => type)
  if (ends.join() !== `task.${task.status}`)
    problems.push(`${task.id} is ${task.status}, and its watchers hear ${ends.join() || 'no end'}`)
  const afterEnd = events.slice(events.findIndex(isEnd) + 1).map(({ type }) => type)
  if (ends.length === 1 && afterEnd.some((type) => !type.startsWith('payment.')))
    problems.push(`${task.id} went on after its end: ${afterEnd.join()}`)
  if (task.status !== 'completed') return problems
  let text = ''
  for (const { type, data } of events) {
    if (type === 'output.reset') text = ''
    if (type !== 'output.appended') continue
    const part = data as { offset: number; text: string }
    if (part.offset !== text.length) problems.push(`${task.id} put out ${part.offset} after ${text.length}`)
    text += part.text
  }
  if (text !== textOf(task)) problems.push(`${task.id} streamed another text than its output`)
  return problems
}

const textOf = ({ output_data }: TaskRow) => (JSON.parse(output_data ?? '{}') as { text?: string }).text ?? ''
