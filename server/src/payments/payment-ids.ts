import { idPrefixes } from '@orbyte/protocol'

/**
 * A task has at most one payment, so the payment has the task's id, with its own prefix: who knows one finds the other. Payments
 * from before that was so have ids of their own, and are found by an index of them alone.
 */
export const paymentIdOf = (taskId: string): string => idPrefixes.payment + taskId.slice(idPrefixes.task.length)

/** SQL: whether a row of `payments` is that of a task. */
export const isPaymentOf = (payments: string, taskId: string): string =>
  `(${payments}.id = '${idPrefixes.payment}' || substr(${taskId}, ${idPrefixes.task.length + 1})
    OR (${payments}.task_id = ${taskId} AND ${hasOwnId(payments)}))`
/** As the index of them says it, `payments_of_other_ids`, or it would not be used. */
const hasOwnId = (payments: string) => `substr(${payments}.id, 5) <> substr(${payments}.task_id, 6)`
