import type { Row } from '@orbyte/server/db/database.ts'
import { type EventRow, eventsOfRow } from '@orbyte/server/event-store.ts'
import type { MarketDisk } from '../market-disk.ts'

/** What the checks read of the market's disk, as it is committed. */
export type TaskFacts = Row & {
  id: string
  renter_id: string
  status: string
  hold_micros: number
  cost_micros: number | null
  max_price_micros_per_hour: number
  max_duration_ms: number
  max_wait_ms: number
  attempts_count: number
  run_ms: number
  input_data: string | null
  output_data: string | null
  attempt_id: string | null
  end_code: string | null
  end_message: string | null
  end_decided_by: string | null
  created_at: string
  completed_at: string | null
  data_deleted_at: string | null
}
export type AttemptFacts = Row & {
  id: string
  task_id: string
  gpu_id: string
  provider_id: string
  fencing_token: string
  status: string
  /** 1: on a GPU that has failed on; it is none of the tries that the task has. */
  trial: number
  price_micros_per_hour: number
  run_ms: number
  cost_micros: number
  output_length: number
  log_lines: number
  end_code: string | null
  offered_at: string
  accepted_at: string | null
  ready_at: string | null
  ended_at: string | null
}
/** What an attempt has of a GPU. */
export type HeldFacts = Pick<AttemptFacts, 'id' | 'gpu_id' | 'status' | 'task_id'> & {
  milli: number
  /** What it may use; 0: no more is said than that it has all of the GPU. */
  vram_gb: number
  gpu_vram_gb: number
  task_status: string
  task_attempt_id: string | null
}
export type HoldFacts = Row & { amount_micros: number; rest_micros: number }
export type PaymentFacts = Row & {
  id: string
  attempt_id: string
  payer_id: string
  recipient_id: string
  amount_micros: number
  fee_micros: number
  refunded_micros: number
  run_ms: number
  status: string
}
export type TransferFacts = Row & {
  seq: number
  kind: string
  debit_account: string
  credit_account: string
  amount_micros: number
  task_id: string | null
}
export type BatchFacts = Row & {
  batch: number
  first_seq: number
  last_seq: number
  previous_hash: string
  hash: string
}
type Count = { count: number }

const taskColumns = `id, renter_id, status, hold_micros, cost_micros, max_price_micros_per_hour, max_duration_ms, max_wait_ms,
  attempts_count, run_ms, input_data, output_data, attempt_id, end_code, end_message, end_decided_by, created_at, completed_at,
  data_deleted_at`
const attemptColumns = `id, task_id, gpu_id, provider_id, fencing_token, status, trial, price_micros_per_hour, run_ms, cost_micros,
  output_length, log_lines, end_code, offered_at, accepted_at, ready_at, ended_at`
const transferColumns = 'seq, kind, debit_account, credit_account, amount_micros, task_id'

export type PromiseStore = ReturnType<typeof createPromiseStore>

export function createPromiseStore({ look }: Pick<MarketDisk, 'look'>) {
  const count = (sql: string, ...params: string[]) => look<Count>(sql, ...params)[0]!.count
  return {
    eventsAfter: (cursor: number) =>
      look<EventRow>('SELECT * FROM events WHERE cursor > ? ORDER BY cursor', cursor).flatMap(eventsOfRow),
    eventsOfTask: (taskId: string) =>
      look<EventRow>('SELECT * FROM events WHERE task_id = ? ORDER BY cursor', taskId).flatMap(eventsOfRow),

    /** Of all accounts; the least of those that may not be below zero. */
    balances: () =>
      look<{ sum: number; least: number }>(
        `SELECT coalesce(sum(balance_micros), 0) AS sum,
           coalesce(min(CASE WHEN id = 'external' THEN 0 ELSE balance_micros END), 0) AS least FROM accounts`,
      )[0]!,
    accounts: () => look<{ id: string; balance_micros: number }>('SELECT id, balance_micros FROM accounts'),
    transfersAfter: (seq: number) =>
      look<TransferFacts>(`SELECT ${transferColumns} FROM transfers WHERE seq > ? ORDER BY seq`, seq),
    /** What came into an account from the world outside, less what went there. */
    movedOutside: (account: string) =>
      look<{ micros: number }>(
        `SELECT coalesce(sum(CASE kind WHEN 'deposit' THEN amount_micros ELSE -amount_micros END), 0) AS micros
         FROM transfers WHERE (kind = 'deposit' AND credit_account = ?1) OR (kind = 'withdrawal' AND debit_account = ?1)`,
        account,
      )[0]!.micros,
    transfersOfTask: (taskId: string) =>
      look<TransferFacts>(`SELECT ${transferColumns} FROM transfers WHERE task_id = ? ORDER BY seq`, taskId),
    batchesFrom: (batch: number) =>
      look<BatchFacts>(
        'SELECT batch, first_seq, last_seq, previous_hash, hash FROM ledger_batches WHERE batch >= ? ORDER BY batch',
        batch,
      ),
    /** What was held for a task, and what is left of it. */
    hold: (taskId: string) =>
      look<HoldFacts>(
        `SELECT amount_micros, amount_micros - (SELECT coalesce(sum(amount_micros), 0) FROM transfers
           WHERE task_id = h.task_id AND debit_account = h.credit_account) AS rest_micros
         FROM transfers h WHERE task_id = ? AND kind = 'hold'`,
        taskId,
      )[0],
    paymentsOfTask: (taskId: string) =>
      look<PaymentFacts>(
        `SELECT id, attempt_id, payer_id, recipient_id, amount_micros, fee_micros, refunded_micros, run_ms, status
         FROM payments WHERE task_id = ?`,
        taskId,
      ),
    newestPaid: (limit: number) =>
      look<{ id: string; payer_id: string }>(
        'SELECT id, payer_id FROM payments WHERE transaction_hash IS NOT NULL ORDER BY id DESC LIMIT ?',
        limit,
      ),
    unsettledPayments: () =>
      look<{ id: string; status: string }>(`SELECT id, status FROM payments WHERE status IN ('pending', 'disputed')`),

    task: (id: string) => look<TaskFacts>(`SELECT ${taskColumns} FROM task_states WHERE id = ?`, id)[0],
    tasks: () => look<TaskFacts>(`SELECT ${taskColumns} FROM task_states ORDER BY id`),
    statuses: () =>
      new Map(
        look<{ id: string; status: string }>('SELECT id, status FROM task_states').map((row) => [row.id, row.status]),
      ),
    openTasks: () =>
      look<TaskFacts>(`SELECT ${taskColumns} FROM task_states WHERE status IN ('pending', 'running') ORDER BY id`),
    titlesOfSeveral: () =>
      look<{ title: string; count: number }>(
        'SELECT title, count(*) AS count FROM tasks GROUP BY title HAVING count(*) > 1 ORDER BY title',
      ),
    /** Rows that hold something of what a task was given or has made. */
    countDataOf: (taskId: string) =>
      count(
        `SELECT (SELECT count(*) FROM events WHERE task_id = ?1 AND type IN ('output.appended', 'log.appended', 'file.added'))
           + (SELECT count(*) FROM task_files WHERE task_id = ?1)
           + (SELECT count(*) FROM tasks WHERE id = ?1 AND (input_data IS NOT NULL OR output_data IS NOT NULL)) AS count`,
        taskId,
      ),
    /** What a task has put out since it was last begun anew. */
    outputOf: (taskId: string) =>
      look<{ text: string }>(
        `SELECT coalesce(group_concat(data ->> 'text', ''), '') AS text FROM (
           SELECT data FROM events WHERE task_id = ?1 AND type = 'output.appended' AND cursor >
             (SELECT coalesce(max(cursor), 0) FROM events WHERE task_id = ?1 AND type = 'output.reset')
           ORDER BY cursor)`,
        taskId,
      )[0]!.text,
    filesOf: (taskId: string, attemptId: string) =>
      look<{ sha256: string }>('SELECT sha256 FROM task_files WHERE task_id = ? AND attempt_id = ?', taskId, attemptId),

    attempt: (id: string) => look<AttemptFacts>(`SELECT ${attemptColumns} FROM attempt_states WHERE id = ?`, id)[0],
    attemptsOfTask: (taskId: string) =>
      look<AttemptFacts>(`SELECT ${attemptColumns} FROM attempt_states WHERE task_id = ? ORDER BY number`, taskId),
    /** Those that have a GPU, each with what its task says. */
    heldAttempts: () =>
      look<HeldFacts>(
        `SELECT a.id, coalesce(s.gpu_id, a.gpu_id) AS gpu_id, coalesce(s.milli, 1000) AS milli, coalesce(s.vram_gb, 0) AS vram_gb,
           g.vram_gb AS gpu_vram_gb, a.status, t.id AS task_id, t.status AS task_status, t.attempt_id AS task_attempt_id
         FROM open_attempts a JOIN task_states t ON t.id = a.task_id LEFT JOIN attempt_gpus s ON s.attempt_id = a.id
         JOIN gpus g ON g.id = coalesce(s.gpu_id, a.gpu_id)
         WHERE a.status IN ('accepted', 'preparing', 'running')`,
      ),
    /** What an attempt has of which GPUs. */
    gpusOf: (attemptId: string) =>
      look<{ gpu_id: string; milli: number; price: number }>(
        `SELECT coalesce(s.gpu_id, a.gpu_id) AS gpu_id, coalesce(s.milli, 1000) AS milli,
           coalesce(s.price_micros_per_hour, a.price_micros_per_hour) AS price
         FROM attempts a LEFT JOIN attempt_gpus s ON s.attempt_id = a.id WHERE a.id = ?`,
        attemptId,
      ),
    openAttempts: () =>
      look<AttemptFacts>(`SELECT ${attemptColumns} FROM attempt_states WHERE row IN (SELECT row FROM open_attempts)`),
    /** Open attempts, each with the machine that it was given to. */
    openAttemptsByMachine: () =>
      look<{ id: string; fencing_token: string; hostname: string }>(
        `SELECT a.id, a.fencing_token, agents.hostname FROM open_attempts a JOIN agents ON agents.id = a.agent_id ORDER BY a.id`,
      ),
    ownerOf: (gpuId: string) =>
      look<{ owner_id: string }>('SELECT owner_id FROM gpus WHERE id = ?', gpuId)[0]!.owner_id,
    coolDowns: () =>
      look<{ id: string; until: string }>(
        'SELECT gpu_id AS id, cool_down_until AS until FROM gpu_standings WHERE cool_down_until IS NOT NULL',
      ),
  }
}
