import type { Row } from '@orbyte/server/db/database.ts'
import type { MarketDisk } from './simulated-disk.ts'

/** What the checks read of the market's disk, as it is committed. */
export type TaskFacts = Row & {
  id: string
  renter_id: string
  status: string
  hold_micros: number
  cost_micros: number | null
  run_ms: number
  input_data: string | null
  output_data: string | null
  attempt_id: string | null
  end_code: string | null
  end_message: string | null
  end_decided_by: string | null
}
export type AttemptFacts = Row & {
  id: string
  task_id: string
  gpu_id: string
  status: string
  price_micros_per_hour: number
  run_ms: number
  ended_at: string | null
}
export type HoldFacts = Row & { amount_micros: number; settled_micros: number; released_micros: number }
type PaymentFacts = Row & { attempt_id: string; amount_micros: number; run_ms: number; status: string }
type Count = { count: number }

export function createPromiseStore({ look }: Pick<MarketDisk, 'look'>) {
  const taskColumns = `id, renter_id, status, hold_micros, cost_micros, run_ms, input_data, output_data, attempt_id, end_code,
    end_message, end_decided_by`
  const attemptColumns = 'id, task_id, gpu_id, status, price_micros_per_hour, run_ms, ended_at'
  return {
    sumOfBalances: () => look<{ sum: number }>('SELECT coalesce(sum(balance_micros), 0) AS sum FROM accounts')[0]!.sum,
    task: (id: string) => look<TaskFacts>(`SELECT ${taskColumns} FROM tasks WHERE id = ?`, id)[0],
    tasks: () => look<TaskFacts>(`SELECT ${taskColumns} FROM tasks ORDER BY id`),
    openTasks: () =>
      look<TaskFacts>(`SELECT ${taskColumns} FROM tasks WHERE status IN ('pending', 'running') ORDER BY id`),
    countTasksTitled: (title: string) =>
      look<Count>('SELECT count(*) AS count FROM tasks WHERE title = ?', title)[0]!.count,
    attempt: (id: string) => look<AttemptFacts>(`SELECT ${attemptColumns} FROM attempts WHERE id = ?`, id)[0],
    /** Those that hold a GPU. */
    heldAttempts: () =>
      look<AttemptFacts>(
        `SELECT ${attemptColumns} FROM attempts WHERE ended_at IS NULL AND status IN ('accepted', 'preparing', 'running')`,
      ),
    openAttempts: () => look<AttemptFacts>(`SELECT ${attemptColumns} FROM attempts WHERE ended_at IS NULL`),
    hold: (taskId: string) =>
      look<HoldFacts>('SELECT amount_micros, settled_micros, released_micros FROM holds WHERE task_id = ?', taskId)[0],
    paymentsOfTask: (taskId: string) =>
      look<PaymentFacts>('SELECT attempt_id, amount_micros, run_ms, status FROM payments WHERE task_id = ?', taskId),
    unsettledPayments: () =>
      look<{ id: string; status: string }>(`SELECT id, status FROM payments WHERE status IN ('pending', 'disputed')`),
    /** What a task has put out since it was last begun anew. */
    outputOf: (taskId: string) =>
      look<{ text: string }>(
        `SELECT coalesce(group_concat(data ->> 'text', ''), '') AS text FROM (
           SELECT data FROM events WHERE task_id = ?1 AND type = 'output.appended' AND cursor >
             (SELECT coalesce(max(cursor), 0) FROM events WHERE task_id = ?1 AND type = 'output.reset')
           ORDER BY cursor)`,
        taskId,
      )[0]!.text,
  }
}
export type PromiseStore = ReturnType<typeof createPromiseStore>
