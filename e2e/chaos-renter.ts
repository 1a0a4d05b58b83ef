import { type Client, OrbyteError } from '@orbyte/sdk'
import { type SeededRandom, sleep } from './chaos-random.ts'

type NewTask = Parameters<Client['tasks']['create']>[0]

/** A task that a renter wants, and what the market has said to it so far. */
export type Submission = {
  /** Also the idempotency key. */
  readonly title: string
  readonly task: NewTask
  /** The text that it is to put out, if it completes. */
  readonly output: string
  /** Null: it may complete; otherwise its work fails as asked, which is never "completed". */
  readonly failsWith: string | null
  taskId: string | null
  /** The market has refused it for good. */
  refusedWith: string | null
  /** The market has acknowledged that it is cancelled. */
  isCancelled: boolean
}

export type Renter = {
  readonly client: Client
  readonly submissions: readonly Submission[]
  /** Submits, and sometimes cancels, until `untilMs`; resolves when the market has answered everything. */
  live(untilMs: number): Promise<void>
  /** Pays for what was submitted to be paid by hand. */
  payAll(): Promise<void>
}

export type RenterOptions = {
  name: string
  client: Client
  random: SeededRandom
  /** The mean time between two submissions. */
  pauseMs: number
  onTrouble: (sentence: string) => void
}

export function createRenter({ name, client, random, pauseMs, onTrouble }: RenterOptions): Renter {
  const submissions: Submission[] = []

  async function submit(submission: Submission, cancelAfterMs: number | null) {
    const answer = await persist(onTrouble, () =>
      client.tasks.create(submission.task, { idempotencyKey: submission.title }),
    )
    if (answer instanceof OrbyteError) submission.refusedWith = answer.code
    else submission.taskId = answer.id
    if (cancelAfterMs === null || submission.taskId === null) return
    await sleep(cancelAfterMs)
    const task_id = submission.taskId
    const cancelled = await persist(onTrouble, () =>
      client.tasks.cancel({ task_id }, { idempotencyKey: `cancel-${submission.title}` }),
    )
    if (!(cancelled instanceof OrbyteError)) submission.isCancelled = true
    else if (cancelled.code !== 'task_finished') onTrouble(`cancelling ${task_id}: ${cancelled.message}`)
  }

  return {
    client,
    submissions,
    async live(untilMs) {
      const onTheirWay: Promise<void>[] = []
      while (Date.now() < untilMs) {
        const submission = newSubmission(`${name}-${submissions.length + 1}`, random)
        submissions.push(submission)
        onTheirWay.push(submit(submission, random.chance(0.15) ? random.between(0, 3_000) : null))
        await sleep(random.between(0, 2 * pauseMs))
      }
      await Promise.all(onTheirWay)
    },
    async payAll() {
      for (const { task, taskId } of submissions) {
        if (taskId === null || task.auto_pay !== false) continue
        const paid = await persist(onTrouble, () => client.payments.pay({ task_id: taskId }))
        const isPaid = !(paid instanceof OrbyteError) || ['payment_not_due', 'payment_settled'].includes(paid.code)
        if (!isPaid) onTrouble(`paying for ${taskId}: ${paid.message}`)
      }
    },
  }
}

/** Asks again until there is an answer: what came back, or a refusal. Something broken on the market's side is neither. */
async function persist<T>(onTrouble: (sentence: string) => void, ask: () => Promise<T>): Promise<T | OrbyteError> {
  for (;;) {
    try {
      return await ask()
    } catch (error) {
      if (!(error instanceof OrbyteError)) throw error
      if (error.code === 'internal_error') onTrouble(`an answer of the market: ${error.message}`)
      const isRefusal = error.status >= 400 && error.status < 500 && error.status !== 429
      if (isRefusal) return error
      await sleep(200)
    }
  }
}

/** Some of everything that may happen to a task. */
function newSubmission(title: string, random: SeededRandom): Submission {
  const output = `${title}: ${random.letters(random.between(0, 3_000))}`
  const draw = random.number()
  const failsWith =
    draw < 0.06
      ? 'crash'
      : draw < 0.1
        ? 'out_of_memory'
        : draw < 0.16
          ? 'renter_error'
          : draw < 0.19
            ? 'too_long'
            : null
  const input_data = {
    output,
    sleep_ms: failsWith === 'too_long' ? 60_000 : random.between(0, 2_000),
    chunks: random.between(1, 8),
    ...(random.chance(0.3) && { prepare_ms: random.between(0, 1_000) }),
    ...(random.chance(0.3) && { log: Array.from({ length: random.between(1, 30) }, () => random.letters(40)) }),
    ...(random.chance(0.1) && { files: [{ name: 'result.txt', text: random.letters(random.between(1, 400_000)) }] }),
    ...(random.chance(0.04) && { ignore_cancel: true }),
    ...(failsWith !== null && failsWith !== 'too_long' && { fail: failsWith }),
  }
  const task: NewTask = {
    ...{ title, task_type: 'other', input_data, max_price_per_hour: '1', wait: true },
    max_duration_ms: failsWith === 'too_long' ? 1_500 : 30_000,
    auto_pay: !random.chance(0.1),
    priority: random.between(0, 9),
    ...(random.chance(0.05) && { max_wait_ms: 2_000 }),
  }
  return { title, task, output, failsWith, taskId: null, refusedWith: null, isCancelled: false }
}
