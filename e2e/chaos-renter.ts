import { setTimeout as sleep } from 'node:timers/promises'
import { type Client, OrbyteError, watch } from '@orbyte/sdk'
import type { SeededRandom } from '../simulation/seeded-random.ts'

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
  /** What a watcher has heard, as "cursor type", from the first to the last event. Null: nobody watches. */
  heard: string[] | null
}

export type Renter = {
  readonly client: Client
  readonly submissions: readonly Submission[]
  /** Submits, sometimes cancels and sometimes watches, until it is over; resolves when the market has answered every call. */
  live(isOver: () => boolean): Promise<void>
  /** Resolves when those who watch have heard how it ended. */
  heardAll(): Promise<void>
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
  const watching: Promise<void>[] = []
  const tell = (what: string) => (error: unknown) => onTrouble(`${what}: ${String(error)}`)

  async function submit(submission: Submission, plan: Plan) {
    const answer = await persist(onTrouble, () =>
      client.tasks.create(submission.task, { idempotencyKey: submission.title }),
    )
    if (answer instanceof OrbyteError) return void (submission.refusedWith = answer.code)
    submission.taskId = answer.id
    if (plan.watches) watching.push(listen(submission, answer.id).catch(tell(`watching ${answer.id}`)))
    if (plan.cancelAfterMs === null) return
    await sleep(plan.cancelAfterMs)
    const cancelled = await persist(onTrouble, () =>
      client.tasks.cancel({ task_id: answer.id }, { idempotencyKey: `cancel-${submission.title}` }),
    )
    if (!(cancelled instanceof OrbyteError)) submission.isCancelled = true
    else if (cancelled.code !== 'task_finished') onTrouble(`cancelling ${answer.id}: ${cancelled.message}`)
  }

  async function listen(submission: Submission, taskId: string) {
    submission.heard = []
    const events = watch(client, taskId, { failuresMax: Infinity })
    for await (const { cursor, type } of events) submission.heard.push(`${cursor} ${type}`)
  }

  return {
    client,
    submissions,
    async live(isOver) {
      const onTheirWay: Promise<void>[] = []
      while (!isOver()) {
        const submission = newSubmission(`${name}-${submissions.length + 1}`, random)
        submissions.push(submission)
        const cancelAfterMs = random.chance(0.15) ? random.integer(0, 3_000) : null
        const submitted = submit(submission, { cancelAfterMs, watches: random.chance(0.2) })
        onTheirWay.push(submitted.catch(tell(submission.title)))
        await sleep(random.integer(0, 2 * pauseMs))
      }
      await Promise.all(onTheirWay)
    },
    async heardAll() {
      await Promise.all(watching)
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

type Plan = { cancelAfterMs: number | null; watches: boolean }

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

/** How the work of a task fails, and how often. Few fail by their provider: a GPU that has failed cools down and does nothing. */
const failures = [
  ['crash', 0.015],
  ['out_of_memory', 0.015],
  ['renter_error', 0.06],
  ['too_long', 0.03],
] as const

function newFailure(random: SeededRandom): (typeof failures)[number][0] | null {
  let draw = random.unit()
  for (const [failsWith, share] of failures) if ((draw -= share) < 0) return failsWith
  return null
}

/** Some of everything that may happen to a task. */
function newSubmission(title: string, random: SeededRandom): Submission {
  const output = `${title}: ${letters(random, random.integer(0, 3_000))}`
  const failsWith = newFailure(random)
  const input_data = {
    output,
    sleep_ms: failsWith === 'too_long' ? 60_000 : random.integer(0, 4_000),
    chunks: random.integer(1, 8),
    ...(random.chance(0.3) && { prepare_ms: random.integer(0, 1_000) }),
    ...(random.chance(0.3) && { log: Array.from({ length: random.integer(1, 30) }, () => letters(random, 40)) }),
    ...(random.chance(0.1) && { files: [{ name: 'result.txt', text: letters(random, random.integer(1, 400_000)) }] }),
    ...(random.chance(0.04) && { ignore_cancel: true }),
    ...(failsWith !== null && failsWith !== 'too_long' && { fail: failsWith }),
  }
  const task: NewTask = {
    ...{ title, task_type: 'other', input_data, max_price_per_hour: '1', wait: true },
    max_duration_ms: failsWith === 'too_long' ? 1_500 : 30_000,
    auto_pay: !random.chance(0.1),
    priority: random.integer(0, 9),
    ...(random.chance(0.05) && { max_wait_ms: 2_000 }),
  }
  return { title, task, output, failsWith, taskId: null, refusedWith: null, isCancelled: false, heard: null }
}

const letters = (random: SeededRandom, count: number) =>
  Array.from(random.bytes(count), (byte) => String.fromCharCode(97 + (byte % 26))).join('')
