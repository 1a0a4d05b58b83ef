import type { Cli } from './cli.ts'
import { CliError, exitCodes } from './exit-codes.ts'

const noTasks = 'You have no tasks yet. Run one: orbyte run text "Once upon a time"'

/** Which task is meant: an id, or "last" for the newest. */
export async function taskIdOf(cli: Cli, given: string): Promise<string> {
  if (given !== 'last') return given
  const [newest] = (await cli.client.tasks.list({ limit: 1 })).items
  if (!newest) throw new CliError(noTasks, exitCodes.notFound)
  return newest.id
}

/** Which payment is meant: an id, that of its task, or "last" for the newest. */
export async function paymentIdOf(cli: Cli, given: string): Promise<string> {
  if (given === 'last') {
    const [newest] = (await cli.client.payments.list({ limit: 1 })).items
    if (!newest) throw new CliError('You have no payments yet: one appears when a task has run.', exitCodes.notFound)
    return newest.id
  }
  if (!given.startsWith('task_')) return given
  const { payment_id, status } = await cli.client.tasks.get({ task_id: given })
  if (payment_id === null)
    throw new CliError(
      `There is no payment for ${given}, which is ${status}: one appears when it has run.`,
      exitCodes.notFound,
    )
  return payment_id
}
