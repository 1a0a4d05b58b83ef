import { type api, type InputOf, oneLine, type OutputOf } from '@orbyte/protocol'
import { OrbyteError } from '@orbyte/sdk'
import type { Cli } from './cli.ts'
import { CliError, exitCodes } from './exit-codes.ts'
import { follow, type Followed, type Task } from './follow.ts'
import { count, duration, gpusOf, hardware, localTime } from './format.ts'
import { onInterrupts } from './interrupts.ts'

export type NewTask = InputOf<typeof api.tasks.create>
type Estimate = OutputOf<typeof api.tasks.estimate>

export type RunOptions = {
  /** Submit and leave. */
  detach?: boolean
  streamsText: boolean
  /** What to do with a task that has completed: show or write its output. Not called with --json. */
  finish: (followed: Followed) => Promise<void>
}

/** Says what it may cost, submits, follows, says what it did cost. Ctrl-C cancels the task; a second one leaves it. */
export async function runTaskCommand(cli: Cli, newTask: NewTask, options: RunOptions): Promise<void> {
  const { terminal } = cli
  if (!cli.json) {
    const estimate = await cli.client.tasks.estimate(newTask)
    // Where nothing fits and nobody waits, the market refuses the task and says why.
    if (estimate.fitting > 0 || newTask.wait) terminal.say(terminal.tint('dim', estimateLine(estimate)))
  }
  const interruption = createInterruption(cli)
  try {
    const submitted = await cli.client.tasks.create(newTask, { signal: interruption.left })
    if (options.detach) return cli.show(submitted, () => submitted.id)
    interruption.submitted(submitted.id)
    const streamsText = options.streamsText && !cli.json
    const followed = await follow(cli, submitted.id, { streamsText, signal: interruption.left })
    const { task } = followed
    if (cli.json) cli.show(task, () => '')
    else if (task.status === 'completed') await options.finish(followed)
    if (!cli.json) terminal.say(terminal.tint('dim', receiptLine(task)))
    failUnlessCompleted(task, interruption.isCancelling())
    if (!cli.json && !task.auto_pay && task.payment_id) terminal.say(await reviewLine(cli, task.payment_id))
  } finally {
    interruption.end()
  }
}

function estimateLine({ fitting, free, offers, hold, rejections, relaxations, expected_wait }: Estimate): string {
  const [best] = offers
  if (!best) {
    const reasons = rejections.map(({ message, gpus }) => `${oneLine(message)} (${count(gpus, 'GPU')})`)
    const changes = relaxations.map(({ message, gpus }) => `${oneLine(message)}: ${count(gpus, 'GPU')}`)
    return [
      ['No GPU fits now', ...reasons].join(' · '),
      ...(changes.length > 0 ? [`It would with: ${changes.join(' · ')}`] : []),
    ].join('\n')
  }
  const wait =
    expected_wait.ms === null || expected_wait.ms === 0 ? '' : `starts in about ${duration(expected_wait.ms)}`
  const gpu = `${oneLine(best.name)} (${oneLine(hardware(best))}) at ${best.price_per_hour} ORB/h`
  const fits = `${count(fitting, 'GPU')} ${fitting === 1 ? 'fits' : 'fit'}, ${free} free`
  return [fits, wait, `best: ${gpu}`, hold === null ? '' : `holds at most ${hold} ORB`].filter(Boolean).join(' · ')
}

function receiptLine(task: Task): string {
  const last = task.attempts.at(-1)
  const where = last ? `${oneLine(gpusOf(last))} (${oneLine(last.gpu_model)})` : 'no GPU'
  const rate = last ? ` × ${last.price_per_hour} ORB/h` : ''
  return [task.status, where, `${duration(task.run_ms)}${rate} = ${task.cost ?? '0'} ORB`, task.id].join(' · ')
}

async function reviewLine(cli: Cli, paymentId: string): Promise<string> {
  const { task_id, review_until } = await cli.client.payments.get({ payment_id: paymentId })
  return [
    `Look at the result, then pay with: orbyte payments pay ${task_id} (it is paid by itself at ${localTime(review_until)})`,
    `If something is wrong with it: orbyte payments dispute ${task_id} "what is wrong"`,
  ].join('\n')
}

export function failUnlessCompleted(task: Task, wasInterrupted = false): void {
  if (task.status === 'completed') return
  const { code, message } = task.end ?? { code: task.status, message: `The task is ${task.status}.` }
  const sentence = `The task ${task.status === 'cancelled' ? 'was cancelled' : 'failed'}: ${oneLine(message)} (${code})`
  throw new CliError(sentence, wasInterrupted ? exitCodes.interrupted : exitCodes.failed)
}

/** What Ctrl-C does to a task that is being run: the first cancels it, the second leaves it alone. */
function createInterruption(cli: Cli) {
  const leaving = new AbortController()
  let taskId: string | null = null
  let cancelling = false

  const cancel = async (task_id: string) => {
    cli.terminal.say('\nCancelling the task. Ctrl-C again leaves without waiting for it.')
    try {
      await cli.client.tasks.cancel({ task_id })
    } catch (error) {
      // It has ended by itself in the meantime: the stream of its events says how.
      if (error instanceof OrbyteError && error.code === 'task_finished') return
      leaving.abort(error)
    }
  }
  const stop = onInterrupts((times) => {
    cancelling = true
    if (times === 1 && taskId !== null) void cancel(taskId)
    if (times > 1) leaving.abort(new CliError(leftSentence(taskId), exitCodes.interrupted))
  })
  return {
    left: leaving.signal,
    isCancelling: () => cancelling,
    /** Ctrl-C may have come while the task was on its way to the market. */
    submitted(id: string) {
      taskId = id
      if (cancelling) void cancel(id)
    },
    end: stop,
  }
}

function leftSentence(taskId: string | null): string {
  if (taskId === null) return 'Left before the market had answered. Whether there is a task: orbyte tasks list'
  return `Left. How the task ended: orbyte tasks show ${taskId}`
}
