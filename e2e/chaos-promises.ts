import { DatabaseSync } from '@photostructure/sqlite'
import { verifyLedgerFile } from '@orbyte/server/ledger/ledger-verify.ts'
import type { Submission } from './chaos-renter.ts'

type Cell = string | number | null
type TaskRow = Record<'id' | 'title' | 'status', string> &
  Record<'end_code' | 'end_message' | 'end_decided_by' | 'attempt_id' | 'output_data' | 'started_at', string | null> &
  Record<'run_ms' | 'max_duration_ms' | 'attempts_count' | 'auto_pay' | 'hold_micros', number> & {
    cost_micros: number | null
  }
type AttemptRow = Record<'id' | 'task_id' | 'gpu_id' | 'status', string> &
  Record<'end_code' | 'end_message' | 'end_decided_by' | 'accepted_at' | 'ready_at' | 'ended_at', string | null> &
  Record<'run_ms' | 'cost_micros' | 'price_micros_per_hour', number>
type PaymentRow = Record<'id' | 'task_id' | 'attempt_id' | 'status', string> & Record<'amount_micros', number>

const final = ['completed', 'failed', 'cancelled']
const attemptsMax = 3

/**
 * Holds a market's file, which nobody has open, against what Orbyte promises and against what its renters were told. Each
 * sentence is a broken promise.
 */
export async function brokenPromises(path: string, submissions: readonly Submission[]): Promise<string[]> {
  const { problems } = await verifyLedgerFile(path)
  const database = new DatabaseSync(path, { readOnly: true })
  const all = <Row>(sql: string, ...params: Cell[]) => database.prepare(sql).all(...params) as Row[]
  try {
    const tasks = all<TaskRow>('SELECT * FROM tasks ORDER BY id')
    const attempts = all<AttemptRow>('SELECT * FROM attempts ORDER BY id')
    const payments = all<PaymentRow>('SELECT * FROM payments ORDER BY id')
    return [
      ...problems.map((problem) => `ledger: ${problem}`),
      ...all<{ integrity_check: string }>('PRAGMA integrity_check')
        .map(({ integrity_check: said }) => said)
        .filter((said) => said !== 'ok')
        .map((said) => `the file: ${said}`),
      ...tasks.flatMap(endProblems),
      ...attempts.flatMap(attemptEndProblems),
      ...overlaps(attempts, 'gpu_id'),
      ...overlaps(attempts, 'task_id'),
      ...paymentProblems(tasks, attempts, payments),
      ...holdProblems(all('SELECT * FROM holds WHERE settled_micros + released_micros <> amount_micros')),
      ...submissionProblems(tasks, submissions),
      ...tasks.flatMap((task) =>
        eventProblems(task, all(`SELECT type, data FROM events WHERE task_id = ? ORDER BY cursor`, task.id)),
      ),
    ]
  } finally {
    database.close()
  }
}

/** Everything ends, with a reason. */
function endProblems(task: TaskRow): string[] {
  const { id, status, end_code, end_message, end_decided_by } = task
  if (!final.includes(status)) return [`${id} has not ended: it is ${status}`]
  const problems: string[] = []
  if (!end_code || !end_message || !end_decided_by) problems.push(`${id} ended without a reason`)
  if (task.attempts_count > attemptsMax) problems.push(`${id} was tried ${task.attempts_count} times`)
  return problems
}

function attemptEndProblems({ id, status, ended_at, end_code, end_decided_by }: AttemptRow): string[] {
  if (ended_at === null) return [`${id} has not ended: it is ${status}`]
  return end_code && end_decided_by ? [] : [`${id} ended without a reason`]
}

/** A GPU is never sold twice; a task runs in one place. */
function overlaps(attempts: readonly AttemptRow[], by: 'gpu_id' | 'task_id'): string[] {
  const problems: string[] = []
  const last = new Map<string, AttemptRow>()
  const accepted = attempts.filter(({ accepted_at }) => accepted_at !== null)
  for (const attempt of accepted.sort((a, b) => (a.accepted_at! < b.accepted_at! ? -1 : 1))) {
    const before = last.get(attempt[by])
    if (before && (before.ended_at ?? '9999') > attempt.accepted_at!)
      problems.push(
        `${attempt[by]} had ${before.id} until ${before.ended_at} and ${attempt.id} from ${attempt.accepted_at}`,
      )
    last.set(attempt[by], attempt)
  }
  return problems
}

/** No evidence, no charge; a task is paid at most once, and never more than was held. */
function paymentProblems(tasks: readonly TaskRow[], attempts: readonly AttemptRow[], payments: readonly PaymentRow[]) {
  const problems: string[] = []
  const paymentsOf = new Map<string, PaymentRow[]>()
  for (const payment of payments) paymentsOf.set(payment.task_id, [...(paymentsOf.get(payment.task_id) ?? []), payment])
  const byId = new Map(attempts.map((attempt) => [attempt.id, attempt]))
  for (const task of tasks) {
    const own = paymentsOf.get(task.id) ?? []
    const cost = task.cost_micros ?? 0
    if (own.length > 1) problems.push(`${task.id} was paid ${own.length} times`)
    const amount = own.reduce((sum, payment) => sum + payment.amount_micros, 0)
    if (amount !== cost) problems.push(`${task.id} cost ${cost}, and ${amount} was paid`)
    if (cost > task.hold_micros) problems.push(`${task.id} cost ${cost} of the ${task.hold_micros} that were held`)
    for (const { id, attempt_id, status } of own) {
      const attempt = byId.get(attempt_id)
      if (!attempt || attempt.task_id !== task.id) problems.push(`${id} is for an attempt of another task`)
      else problems.push(...evidenceProblems(task, attempt))
      if (status !== 'completed') problems.push(`${id} is ${status}`)
    }
    const others = attempts.filter(
      ({ task_id, id, cost_micros }) => task_id === task.id && cost_micros > 0 && own[0]?.attempt_id !== id,
    )
    for (const { id } of others) problems.push(`${id} of ${task.id} was charged and not paid for`)
    if (task.status === 'completed' && task.run_ms > 0 && cost === 0) problems.push(`${task.id} ran and cost nothing`)
  }
  return problems
}

/** How much later than an attempt ended its end may have been written. */
function evidenceProblems(task: TaskRow, attempt: AttemptRow): string[] {
  if (attempt.ready_at === null || attempt.ended_at === null) return [`${attempt.id} was charged and was never ready`]
  const problems: string[] = []
  const observedMs = Date.parse(attempt.ended_at) - Date.parse(attempt.ready_at)
  if (task.run_ms > observedMs) problems.push(`${task.id} was charged for ${task.run_ms} ms of ${observedMs} ms`)
  if (task.run_ms > task.max_duration_ms)
    problems.push(`${task.id} was charged for ${task.run_ms} ms, more than it may run`)
  if (attempt.cost_micros > Math.ceil((task.run_ms * attempt.price_micros_per_hour) / 3_600_000))
    problems.push(`${task.id} cost ${attempt.cost_micros}, more than ${task.run_ms} ms of its GPU`)
  return problems
}

function holdProblems(open: readonly { task_id: string }[]): string[] {
  return open.map(({ task_id }) => `the hold of ${task_id} is not closed`)
}

/** What was acknowledged is durable. */
function submissionProblems(tasks: readonly TaskRow[], submissions: readonly Submission[]): string[] {
  const problems: string[] = []
  const byTitle = new Map<string, TaskRow[]>()
  for (const task of tasks) byTitle.set(task.title, [...(byTitle.get(task.title) ?? []), task])
  for (const { title, taskId, refusedWith, isCancelled, failsWith, output } of submissions) {
    const own = byTitle.get(title) ?? []
    if (own.length > 1) problems.push(`${title} was submitted once and is there ${own.length} times`)
    const [task] = own
    if (taskId !== null && task?.id !== taskId)
      problems.push(`${title} was acknowledged as ${taskId} and is ${task?.id ?? 'gone'}`)
    if (refusedWith !== null && task) problems.push(`${title} was refused (${refusedWith}) and is there`)
    if (!task) continue
    if (isCancelled && task.status !== 'cancelled')
      problems.push(`${task.id} was cancelled for its renter and is ${task.status}`)
    if (task.status !== 'completed') continue
    if (failsWith !== null) problems.push(`${task.id} is completed, and its work fails (${failsWith})`)
    const { text } = JSON.parse(task.output_data ?? '{}') as { text?: string }
    if (text !== output) problems.push(`${task.id} is completed with another output than its own`)
  }
  return problems
}

/** What watchers were told: one end, nothing after it, and the text that the task has put out. */
function eventProblems(task: TaskRow, events: readonly { type: string; data: string }[]): string[] {
  const problems: string[] = []
  const ends = events.filter(({ type }) => final.includes(type.replace('task.', '')))
  if (ends.length !== 1 || ends[0]!.type !== `task.${task.status}`)
    problems.push(
      `${task.id} is ${task.status}, and its watchers heard ${ends.map(({ type }) => type).join(', ') || 'no end'}`,
    )
  const afterEnd = events.slice(events.findIndex((event) => event === ends[0]) + 1)
  if (ends.length === 1 && afterEnd.some(({ type }) => /^(task|output|attempt\.(accepted|preparing|ready))/.test(type)))
    problems.push(`${task.id} went on after its end: ${afterEnd.map(({ type }) => type).join(', ')}`)
  if (task.status !== 'completed') return problems
  let text = ''
  for (const { type, data } of events) {
    if (type === 'output.reset') text = ''
    if (type !== 'output.appended') continue
    const part = JSON.parse(data) as { offset: number; text: string }
    if (part.offset !== text.length) problems.push(`${task.id} put out ${part.offset} after ${text.length}`)
    text += part.text
  }
  const { text: whole } = JSON.parse(task.output_data ?? '{}') as { text?: string }
  if (text !== whole) problems.push(`${task.id} streamed another text than its output`)
  return problems
}
