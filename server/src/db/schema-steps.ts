import { shortOf } from './database.ts'

const standing = [
  ...['tasks_completed', 'tasks_failed', 'failures_in_a_row', 'cool_down_until', 'tasks_slow'],
  ...['audits_passed', 'audits_failed', 'audits_in_a_row', 'audited_at'],
]

/**
 * The schema, as numbered steps. A step that has been released is never changed; the file's version is the number of steps
 * that it has seen. Columns carry the wire's names; amounts are whole micro-ORB and say so.
 */
export const migrations: readonly string[][] = [
  [
    `CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID`,

    `CREATE TABLE users (
      id TEXT PRIMARY KEY, email TEXT UNIQUE, name TEXT, password_hash TEXT NOT NULL, role TEXT NOT NULL, status TEXT NOT NULL,
      suspended_reason TEXT, created_at TEXT NOT NULL, updated_at TEXT NOT NULL) STRICT`,
    `CREATE TABLE sessions (
      id TEXT PRIMARY KEY, user_id TEXT NOT NULL, family_hash TEXT NOT NULL UNIQUE, refresh_token_hash TEXT NOT NULL,
      user_agent TEXT, created_at TEXT NOT NULL, last_used_at TEXT NOT NULL, expires_at TEXT NOT NULL) STRICT`,
    `CREATE INDEX sessions_by_user ON sessions (user_id)`,
    `CREATE TABLE api_keys (
      id TEXT PRIMARY KEY, user_id TEXT NOT NULL, name TEXT NOT NULL, prefix TEXT NOT NULL, secret_hash TEXT NOT NULL UNIQUE,
      created_at TEXT NOT NULL, last_used_at TEXT, expires_at TEXT) STRICT`,
    `CREATE INDEX api_keys_by_user ON api_keys (user_id, id)`,
    `CREATE TABLE agent_tokens (
      id TEXT PRIMARY KEY, user_id TEXT NOT NULL, name TEXT NOT NULL, prefix TEXT NOT NULL, secret_hash TEXT NOT NULL UNIQUE,
      created_at TEXT NOT NULL, last_used_at TEXT, expires_at TEXT) STRICT`,
    `CREATE INDEX agent_tokens_by_user ON agent_tokens (user_id, id)`,
    `CREATE TABLE idempotency_keys (
      user_id TEXT NOT NULL, endpoint TEXT NOT NULL, key TEXT NOT NULL, body_hash TEXT NOT NULL, reply TEXT NOT NULL,
      created_at TEXT NOT NULL, PRIMARY KEY (user_id, endpoint, key)) STRICT, WITHOUT ROWID`,
    `CREATE INDEX idempotency_keys_by_age ON idempotency_keys (created_at)`,
    `CREATE TABLE admin_actions (
      id INTEGER PRIMARY KEY, admin_id TEXT NOT NULL, action TEXT NOT NULL, subject TEXT NOT NULL, reason TEXT,
      created_at TEXT NOT NULL) STRICT`,

    `CREATE TABLE accounts (
      id TEXT PRIMARY KEY, balance_micros INTEGER NOT NULL CHECK (balance_micros >= 0 OR id = 'external')) STRICT, WITHOUT ROWID`,
    `CREATE TABLE ledger_sum (id INTEGER PRIMARY KEY CHECK (id = 1), micros INTEGER NOT NULL) STRICT`,
    `INSERT INTO ledger_sum (id, micros) VALUES (1, 0)`,
    `CREATE TRIGGER account_added AFTER INSERT ON accounts BEGIN
      UPDATE ledger_sum SET micros = micros + new.balance_micros; END`,
    `CREATE TRIGGER account_changed AFTER UPDATE OF balance_micros ON accounts BEGIN
      UPDATE ledger_sum SET micros = micros - old.balance_micros + new.balance_micros; END`,
    `CREATE TRIGGER account_removed AFTER DELETE ON accounts BEGIN
      UPDATE ledger_sum SET micros = micros - old.balance_micros; END`,
    `CREATE TABLE transfers (
      seq INTEGER PRIMARY KEY, kind TEXT NOT NULL, debit_account TEXT NOT NULL, credit_account TEXT NOT NULL,
      amount_micros INTEGER NOT NULL CHECK (amount_micros > 0), idempotency_key TEXT NOT NULL UNIQUE, task_id TEXT,
      created_at TEXT NOT NULL, leaf_hash TEXT NOT NULL) STRICT`,
    `CREATE INDEX transfers_by_debit ON transfers (debit_account, seq)`,
    `CREATE INDEX transfers_by_credit ON transfers (credit_account, seq)`,
    `CREATE INDEX transfers_by_task ON transfers (task_id) WHERE task_id IS NOT NULL`,
    `CREATE TABLE holds (
      task_id TEXT PRIMARY KEY, user_id TEXT NOT NULL, amount_micros INTEGER NOT NULL CHECK (amount_micros > 0),
      settled_micros INTEGER NOT NULL DEFAULT 0, released_micros INTEGER NOT NULL DEFAULT 0, created_at TEXT NOT NULL,
      CHECK (settled_micros >= 0 AND released_micros >= 0 AND settled_micros + released_micros <= amount_micros)) STRICT`,
    `CREATE TABLE ledger_batches (
      batch INTEGER PRIMARY KEY, first_seq INTEGER NOT NULL, last_seq INTEGER NOT NULL, merkle_root TEXT NOT NULL,
      previous_hash TEXT NOT NULL, hash TEXT NOT NULL, signature TEXT NOT NULL, committed_at TEXT NOT NULL) STRICT`,
    `CREATE INDEX ledger_batches_by_seq ON ledger_batches (last_seq)`,

    `CREATE TABLE payments (
      id TEXT PRIMARY KEY, task_id TEXT NOT NULL UNIQUE, attempt_id TEXT NOT NULL, gpu_id TEXT NOT NULL, payer_id TEXT NOT NULL,
      recipient_id TEXT NOT NULL, amount_micros INTEGER NOT NULL, fee_micros INTEGER NOT NULL,
      refunded_micros INTEGER NOT NULL DEFAULT 0, status TEXT NOT NULL, run_ms INTEGER NOT NULL,
      price_micros_per_hour INTEGER NOT NULL, transaction_hash TEXT, review_until TEXT, created_at TEXT NOT NULL,
      settled_at TEXT) STRICT`,
    `CREATE INDEX payments_by_payer ON payments (payer_id, id)`,
    `CREATE INDEX payments_by_recipient ON payments (recipient_id, id)`,
    `CREATE INDEX payments_unsettled ON payments (recipient_id) WHERE status IN ('pending', 'disputed')`,
    `CREATE INDEX payments_in_review ON payments (review_until) WHERE status = 'pending'`,
    `CREATE TABLE disputes (
      id TEXT PRIMARY KEY, payment_id TEXT NOT NULL UNIQUE, task_id TEXT NOT NULL, opened_by TEXT NOT NULL, reason TEXT NOT NULL,
      status TEXT NOT NULL, refunded_micros INTEGER, note TEXT, decided_by TEXT, decide_by TEXT NOT NULL, created_at TEXT NOT NULL,
      decided_at TEXT) STRICT`,
    `CREATE INDEX disputes_open ON disputes (decide_by) WHERE status = 'open'`,

    `CREATE TABLE agents (
      id TEXT PRIMARY KEY, owner_id TEXT NOT NULL, public_key TEXT NOT NULL UNIQUE, hostname TEXT NOT NULL, os TEXT NOT NULL,
      version TEXT NOT NULL, region TEXT, status TEXT NOT NULL, suspended_reason TEXT, created_at TEXT NOT NULL,
      last_seen_at TEXT) STRICT`,
    `CREATE INDEX agents_by_owner ON agents (owner_id, id)`,
    `CREATE TABLE gpus (
      id TEXT PRIMARY KEY, owner_id TEXT NOT NULL, agent_id TEXT, device_uuid TEXT, kind TEXT NOT NULL, name TEXT NOT NULL,
      model TEXT NOT NULL, vram_gb REAL NOT NULL, registered_model TEXT NOT NULL, registered_vram_gb REAL NOT NULL,
      price_micros_per_hour INTEGER NOT NULL, region TEXT, maintenance INTEGER NOT NULL DEFAULT 0, specs TEXT, differences TEXT NOT NULL DEFAULT '[]',
      tasks_completed INTEGER NOT NULL DEFAULT 0, tasks_failed INTEGER NOT NULL DEFAULT 0,
      failures_in_a_row INTEGER NOT NULL DEFAULT 0, cool_down_until TEXT, created_at TEXT NOT NULL, last_seen_at TEXT,
      deleted_at TEXT) STRICT`,
    `CREATE INDEX gpus_by_owner ON gpus (owner_id, id)`,
    `CREATE UNIQUE INDEX gpus_by_device ON gpus (device_uuid) WHERE device_uuid IS NOT NULL AND deleted_at IS NULL`,
    `CREATE TABLE gpu_prices (
      gpu_id TEXT NOT NULL, changed_at TEXT NOT NULL, price_micros_per_hour INTEGER NOT NULL,
      PRIMARY KEY (gpu_id, changed_at)) STRICT, WITHOUT ROWID`,
    `CREATE TABLE gpu_telemetry (
      gpu_id TEXT NOT NULL, at TEXT NOT NULL, status TEXT NOT NULL, utilization_percent REAL, vram_used_gb REAL,
      temperature_celsius REAL, power_watts REAL, PRIMARY KEY (gpu_id, at)) STRICT, WITHOUT ROWID`,
    `CREATE INDEX gpu_telemetry_by_age ON gpu_telemetry (at)`,

    `CREATE TABLE tasks (
      id TEXT PRIMARY KEY, renter_id TEXT NOT NULL, title TEXT, task_type TEXT NOT NULL, status TEXT NOT NULL, input_data TEXT,
      input_bytes INTEGER NOT NULL, output_data TEXT, requirements TEXT NOT NULL, model TEXT, max_price_micros_per_hour INTEGER NOT NULL,
      max_duration_ms INTEGER NOT NULL, max_wait_ms INTEGER NOT NULL, auto_pay INTEGER NOT NULL, priority INTEGER NOT NULL,
      hold_micros INTEGER NOT NULL, cost_micros INTEGER, run_ms INTEGER NOT NULL DEFAULT 0,
      attempts_count INTEGER NOT NULL DEFAULT 0, attempt_id TEXT, gpu_id TEXT, end_code TEXT, end_message TEXT,
      end_decided_by TEXT, created_at TEXT NOT NULL, updated_at TEXT NOT NULL, started_at TEXT, completed_at TEXT,
      data_deleted_at TEXT) STRICT`,
    `CREATE INDEX tasks_by_renter ON tasks (renter_id, id)`,
    `CREATE INDEX tasks_open ON tasks (status, id) WHERE status IN ('pending', 'running')`,
    `CREATE INDEX tasks_open_by_renter ON tasks (renter_id, id) WHERE status IN ('pending', 'running')`,
    `CREATE INDEX tasks_pending ON tasks (renter_id, input_bytes) WHERE status = 'pending'`,
    `CREATE INDEX tasks_with_data ON tasks (completed_at) WHERE data_deleted_at IS NULL`,
    `CREATE TABLE attempts (
      id TEXT PRIMARY KEY, task_id TEXT NOT NULL, gpu_id TEXT NOT NULL, agent_id TEXT NOT NULL, provider_id TEXT NOT NULL,
      number INTEGER NOT NULL, fencing_token TEXT NOT NULL, status TEXT NOT NULL, progress TEXT,
      price_micros_per_hour INTEGER NOT NULL, run_ms INTEGER NOT NULL DEFAULT 0, cost_micros INTEGER NOT NULL DEFAULT 0,
      output_length INTEGER NOT NULL DEFAULT 0, output_bytes INTEGER NOT NULL DEFAULT 0, log_lines INTEGER NOT NULL DEFAULT 0,
      end_code TEXT, end_message TEXT, end_decided_by TEXT, offered_at TEXT NOT NULL, accepted_at TEXT, ready_at TEXT, ended_at TEXT) STRICT`,
    `CREATE INDEX attempts_by_task ON attempts (task_id, number)`,
    `CREATE INDEX attempts_by_gpu ON attempts (gpu_id, id)`,
    `CREATE INDEX attempts_open ON attempts (agent_id) WHERE ended_at IS NULL`,
    `CREATE TABLE task_files (
      task_id TEXT NOT NULL, attempt_id TEXT NOT NULL, name TEXT NOT NULL, mime_type TEXT NOT NULL, size_bytes INTEGER NOT NULL,
      sha256 TEXT NOT NULL, created_at TEXT NOT NULL, PRIMARY KEY (task_id, attempt_id, name)) STRICT, WITHOUT ROWID`,
    `CREATE INDEX task_files_by_hash ON task_files (sha256)`,
    `CREATE TABLE task_file_parts (
      attempt_id TEXT NOT NULL, name TEXT NOT NULL, offset INTEGER NOT NULL, bytes BLOB NOT NULL, size_bytes INTEGER NOT NULL,
      UNIQUE (attempt_id, name, offset)) STRICT`,

    `CREATE TABLE events (
      cursor INTEGER PRIMARY KEY, type TEXT NOT NULL, at TEXT NOT NULL, task_id TEXT, attempt_id TEXT, user_id TEXT,
      provider_id TEXT, data TEXT NOT NULL) STRICT`,
    `CREATE INDEX events_by_task ON events (task_id, cursor) WHERE task_id IS NOT NULL`,
  ],
  [
    `CREATE TABLE renter_weights (user_id TEXT PRIMARY KEY, weight REAL NOT NULL CHECK (weight > 0)) STRICT, WITHOUT ROWID`,
  ],
  [
    `ALTER TABLE attempts ADD COLUMN trial INTEGER NOT NULL DEFAULT 0`,
    `ALTER TABLE attempts ADD COLUMN expected_run_ms INTEGER`,
    `ALTER TABLE attempts ADD COLUMN slow INTEGER NOT NULL DEFAULT 0`,
    `ALTER TABLE gpus ADD COLUMN tasks_slow INTEGER NOT NULL DEFAULT 0`,
    `ALTER TABLE gpus ADD COLUMN audits_passed INTEGER NOT NULL DEFAULT 0`,
    `ALTER TABLE gpus ADD COLUMN audits_failed INTEGER NOT NULL DEFAULT 0`,
    `ALTER TABLE gpus ADD COLUMN audits_in_a_row INTEGER NOT NULL DEFAULT 0`,
    `ALTER TABLE gpus ADD COLUMN audited_at TEXT`,
    `CREATE TABLE gpu_speeds (
      gpu_id TEXT NOT NULL, model TEXT NOT NULL, task_type TEXT NOT NULL, attempts INTEGER NOT NULL, work REAL NOT NULL,
      run_ms INTEGER NOT NULL, recent_work REAL NOT NULL, recent_run_ms REAL NOT NULL, updated_at TEXT NOT NULL,
      PRIMARY KEY (gpu_id, model, task_type)) STRICT, WITHOUT ROWID`,

    `ALTER TABLE tasks ADD COLUMN allow_reexecution INTEGER NOT NULL DEFAULT 0`,
    `ALTER TABLE tasks ADD COLUMN reexecution TEXT`,
    `CREATE TABLE audits (
      id TEXT PRIMARY KEY, kind TEXT NOT NULL, status TEXT NOT NULL, task_type TEXT NOT NULL, model TEXT NOT NULL,
      device_class TEXT NOT NULL, message TEXT, created_at TEXT NOT NULL, decide_by TEXT NOT NULL, decided_at TEXT) STRICT`,
    `CREATE INDEX audits_open ON audits (id) WHERE status = 'open'`,
    `CREATE TABLE audit_answers (
      task_id TEXT PRIMARY KEY, audit_id TEXT NOT NULL, gpu_id TEXT NOT NULL, agent_id TEXT NOT NULL, provider_id TEXT NOT NULL,
      paid_by_market INTEGER NOT NULL, verdict TEXT NOT NULL, forgiven INTEGER NOT NULL DEFAULT 0, asked_at TEXT NOT NULL,
      judged_at TEXT) STRICT`,
    `CREATE INDEX audit_answers_by_audit ON audit_answers (audit_id)`,
    `CREATE INDEX audit_answers_by_gpu ON audit_answers (gpu_id, task_id)`,
    `CREATE INDEX audit_answers_by_time ON audit_answers (asked_at) WHERE paid_by_market = 1`,
    `CREATE INDEX audit_answers_at_fault ON audit_answers (agent_id) WHERE verdict = 'at_fault'`,
    `CREATE TABLE audit_dues (gpu_id TEXT PRIMARY KEY, due_at TEXT NOT NULL) STRICT, WITHOUT ROWID`,
  ],
  // Fewer and smaller places to write to for each task: docs/decisions/0019-how-commits-are-written.md.
  [
    `DROP INDEX tasks_open`,
    `DROP INDEX tasks_with_data`,
    `CREATE INDEX tasks_with_data ON tasks (completed_at) WHERE data_deleted_at IS NULL AND completed_at IS NOT NULL`,
    `DROP INDEX tasks_by_renter`,
    `CREATE INDEX tasks_by_renter ON tasks (${shortOf('renter_id')})`,
    `DROP INDEX attempts_by_gpu`,
    `CREATE INDEX attempts_by_gpu ON attempts (${shortOf('gpu_id')})`,
    `DROP INDEX payments_by_payer`,
    `CREATE INDEX payments_by_payer ON payments (${shortOf('payer_id')})`,
    `DROP INDEX payments_by_recipient`,
    `CREATE INDEX payments_by_recipient ON payments (${shortOf('recipient_id')})`,
    `DROP INDEX transfers_by_debit`,
    `CREATE INDEX transfers_by_payer ON transfers (${shortOf('debit_account')})`,
    `DROP INDEX transfers_by_credit`,
    `CREATE INDEX transfers_by_payee ON transfers (${shortOf('credit_account')}) WHERE kind IN ('deposit', 'settlement', 'refund')`,
    `CREATE INDEX transfers_deposited ON transfers (credit_account, created_at) WHERE kind = 'deposit'`,
    `CREATE TABLE lean_holds (
      task_id TEXT PRIMARY KEY, user_id TEXT NOT NULL, amount_micros INTEGER NOT NULL CHECK (amount_micros > 0),
      settled_micros INTEGER NOT NULL DEFAULT 0, released_micros INTEGER NOT NULL DEFAULT 0, created_at TEXT NOT NULL,
      CHECK (settled_micros >= 0 AND released_micros >= 0 AND settled_micros + released_micros <= amount_micros)) STRICT, WITHOUT ROWID`,
    `INSERT INTO lean_holds SELECT * FROM holds`,
    `DROP TABLE holds`,
    `ALTER TABLE lean_holds RENAME TO holds`,
  ],
  [`CREATE INDEX tasks_of_images_by_renter ON tasks (${shortOf('renter_id')}) WHERE task_type = 'image_generation'`],
  // An attempt is stored with its agent's answer: docs/decisions/0023-offers-in-memory.md.
  [`DELETE FROM attempts WHERE status = 'offered'`, `DROP INDEX tasks_pending`],
  // One index of what belongs to whom, brought up to date a moment later: server/src/db/owned-rows.ts.
  [
    `CREATE TABLE owned (
      list INTEGER NOT NULL, owner TEXT NOT NULL, row INTEGER NOT NULL, PRIMARY KEY (list, owner, row)) STRICT, WITHOUT ROWID`,
    `CREATE TABLE owned_up_to (list INTEGER PRIMARY KEY, row INTEGER NOT NULL) STRICT`,
    ...['tasks_by_renter', 'attempts_by_gpu', 'payments_by_payer', 'payments_by_recipient'].map(
      (name) => `DROP INDEX ${name}`,
    ),
    ...['transfers_by_payer', 'transfers_by_payee'].map((name) => `DROP INDEX ${name}`),
  ],
  // What attempts have of GPUs, but for those that have one whole GPU: docs/decisions/0021-several-gpus-and-shares.md.
  [
    `ALTER TABLE gpus ADD COLUMN sharing INTEGER NOT NULL DEFAULT 0`,
    `CREATE TABLE attempt_gpus (
      attempt_id TEXT NOT NULL, place INTEGER NOT NULL, gpu_id TEXT NOT NULL, milli INTEGER NOT NULL CHECK (milli BETWEEN 1 AND 1000),
      vram_gb REAL, price_micros_per_hour INTEGER NOT NULL, PRIMARY KEY (attempt_id, place)) STRICT, WITHOUT ROWID`,
    `CREATE INDEX attempt_gpus_by_gpu ON attempt_gpus (gpu_id, attempt_id)`,
  ],
  // One index finds a task's transfers and keeps their keys from being used twice: docs/decisions/0019-how-commits-are-written.md.
  [
    `CREATE TABLE lean_transfers (
      seq INTEGER PRIMARY KEY, kind TEXT NOT NULL, debit_account TEXT NOT NULL, credit_account TEXT NOT NULL,
      amount_micros INTEGER NOT NULL CHECK (amount_micros > 0), idempotency_key TEXT NOT NULL, task_id TEXT,
      created_at TEXT NOT NULL, leaf_hash TEXT NOT NULL) STRICT`,
    `INSERT INTO lean_transfers SELECT * FROM transfers`,
    `DROP TABLE transfers`,
    `ALTER TABLE lean_transfers RENAME TO transfers`,
    `CREATE UNIQUE INDEX transfers_of_tasks ON transfers (task_id, idempotency_key) WHERE task_id IS NOT NULL`,
    `CREATE UNIQUE INDEX transfers_beside_tasks ON transfers (idempotency_key) WHERE task_id IS NULL`,
    `CREATE INDEX transfers_deposited ON transfers (credit_account, created_at) WHERE kind = 'deposit'`,
    // Events that a task's moment brings together share a row: server/src/event-store.ts.
    `ALTER TABLE events ADD COLUMN together TEXT`,
  ],
  // What is left of a hold is what its task's transfers say. Where they do not say what has been kept so far, somebody has to look
  // at it before one of the two is gone: the step fails, and leaves the file as it was.
  [
    `CREATE TABLE differing_holds (task_id TEXT) STRICT`,
    `CREATE TRIGGER hold_differs BEFORE INSERT ON differing_holds BEGIN SELECT RAISE(ABORT,
      'the hold of ' || coalesce(new.task_id, 'no task') || ' is not what its transfers say: this database was damaged or changed by hand, and is left as it was. See what else is wrong with "orbyte ledger verify", and go back to a backup from before with "orbyte restore"'); END`,
    `INSERT INTO differing_holds
     WITH kept AS (
       SELECT task_id, 'held:' || user_id AS account, amount_micros AS held, settled_micros AS settled, released_micros AS released FROM holds),
     moved AS (
       SELECT task_id, iif(kind = 'hold', credit_account, debit_account) AS account,
         sum(iif(kind = 'hold', amount_micros, 0)) AS held,
         sum(iif(kind IN ('settlement', 'fee'), amount_micros, 0)) AS settled,
         sum(iif(kind IN ('hold', 'settlement', 'fee'), 0, amount_micros)) AS released
       FROM transfers WHERE kind = 'hold' OR debit_account LIKE 'held:%' GROUP BY 1, 2)
     SELECT task_id FROM (SELECT * FROM kept EXCEPT SELECT * FROM moved)
     UNION ALL SELECT task_id FROM (SELECT * FROM moved EXCEPT SELECT * FROM kept)`,
    `DROP TABLE differing_holds`,
    `DROP TABLE holds`,
    // Batches have no gaps, so one is found by halving; and a key says which task it is of, which the index need not say twice.
    `DROP INDEX ledger_batches_by_seq`,
    `DROP INDEX transfers_of_tasks`,
    `CREATE UNIQUE INDEX transfers_of_tasks ON transfers (task_id, replace(idempotency_key, task_id, '')) WHERE task_id IS NOT NULL`,
  ],
  // What changes of a GPU with each task, apart from all else: docs/decisions/0019-how-commits-are-written.md.
  [
    `CREATE TABLE gpu_standings (
      gpu_id TEXT PRIMARY KEY, tasks_completed INTEGER NOT NULL DEFAULT 0, tasks_failed INTEGER NOT NULL DEFAULT 0,
      failures_in_a_row INTEGER NOT NULL DEFAULT 0, cool_down_until TEXT, tasks_slow INTEGER NOT NULL DEFAULT 0,
      audits_passed INTEGER NOT NULL DEFAULT 0, audits_failed INTEGER NOT NULL DEFAULT 0,
      audits_in_a_row INTEGER NOT NULL DEFAULT 0, audited_at TEXT) STRICT, WITHOUT ROWID`,
    `INSERT INTO gpu_standings (gpu_id, ${standing.join(', ')}) SELECT id, ${standing.join(', ')} FROM gpus`,
    ...standing.map((column) => `ALTER TABLE gpus DROP COLUMN ${column}`),
    // An owner's rows by the hundred instead of one by one: server/src/db/owned-rows.ts.
    `CREATE TABLE lean_owned (
      list INTEGER NOT NULL, owner TEXT NOT NULL, base INTEGER NOT NULL, offsets TEXT NOT NULL,
      PRIMARY KEY (list, owner, base)) STRICT, WITHOUT ROWID`,
    `INSERT INTO lean_owned (list, owner, base, offsets)
     SELECT list, owner, row - 1, (
       SELECT json_group_array(next.row - first.row + 1) FROM (
         SELECT row FROM owned WHERE list = first.list AND owner = first.owner AND row >= first.row ORDER BY row LIMIT 100) next)
     FROM (SELECT list, owner, row, row_number() OVER (PARTITION BY list, owner ORDER BY row) AS place FROM owned) first
     WHERE place % 100 = 1`,
    `DROP TABLE owned`,
    `ALTER TABLE lean_owned RENAME TO owned`,
  ],
  // A task is written when it is submitted and when it ends, its attempt when it begins: docs/decisions/0019-how-commits-are-written.md.
  // To bound the memory that it takes, indexes come before the rows, which come in the sequence of their numbers; and what is given up
  // goes at the end: SQLite keeps a copy of each page that a statement takes into use again.
  [
    `CREATE TABLE lean_tasks (
      row INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, renter_id TEXT NOT NULL, title TEXT, task_type TEXT NOT NULL,
      status TEXT NOT NULL, input_data TEXT, input_bytes INTEGER NOT NULL, output_data TEXT, requirements TEXT NOT NULL, model TEXT,
      max_price_micros_per_hour INTEGER NOT NULL, max_duration_ms INTEGER NOT NULL, max_wait_ms INTEGER NOT NULL,
      auto_pay INTEGER NOT NULL, allow_reexecution INTEGER NOT NULL, priority INTEGER NOT NULL, hold_micros INTEGER NOT NULL,
      cost_micros INTEGER, run_ms INTEGER NOT NULL DEFAULT 0, end_code TEXT, end_message TEXT, end_decided_by TEXT,
      created_at TEXT NOT NULL, completed_at TEXT, data_deleted_at TEXT, reexecution TEXT,
      CHECK ((status = 'open') = (completed_at IS NULL))) STRICT`,
    `CREATE INDEX tasks_open ON lean_tasks (renter_id, id) WHERE status = 'open'`,
    `CREATE INDEX tasks_by_end ON lean_tasks (completed_at) WHERE data_deleted_at IS NULL AND completed_at IS NOT NULL`,
    `CREATE INDEX tasks_of_images ON lean_tasks (${shortOf('renter_id')}) WHERE task_type = 'image_generation'`,
    `INSERT INTO lean_tasks
     SELECT rowid, id, renter_id, title, task_type, CASE WHEN status IN ('pending', 'running') THEN 'open' ELSE status END, input_data,
       input_bytes, output_data, requirements, model, max_price_micros_per_hour, max_duration_ms, max_wait_ms, auto_pay,
       allow_reexecution, priority, hold_micros, cost_micros, run_ms, end_code, end_message, end_decided_by, created_at,
       CASE WHEN status NOT IN ('pending', 'running') THEN coalesce(completed_at, updated_at) END, data_deleted_at, reexecution
     FROM tasks ORDER BY rowid`,

    `CREATE TABLE lean_attempts (
      row INTEGER PRIMARY KEY, id TEXT NOT NULL, task_id TEXT NOT NULL, gpu_id TEXT NOT NULL, agent_id TEXT NOT NULL,
      provider_id TEXT NOT NULL, number INTEGER NOT NULL, fencing_token TEXT NOT NULL, status TEXT NOT NULL, progress TEXT,
      price_micros_per_hour INTEGER NOT NULL, trial INTEGER NOT NULL, run_ms INTEGER NOT NULL DEFAULT 0,
      output_length INTEGER NOT NULL DEFAULT 0, output_bytes INTEGER NOT NULL DEFAULT 0, log_lines INTEGER NOT NULL DEFAULT 0,
      expected_run_ms INTEGER, slow INTEGER NOT NULL DEFAULT 0, end_code TEXT, end_message TEXT, end_decided_by TEXT,
      offered_at TEXT NOT NULL, accepted_at TEXT, ready_at TEXT, ended_at TEXT) STRICT`,
    `CREATE INDEX attempts_of_task ON lean_attempts (task_id, ended_at)`,
    `INSERT INTO lean_attempts
     SELECT a.rowid, a.id, a.task_id, a.gpu_id, a.agent_id, a.provider_id, a.number, a.fencing_token, a.status, a.progress,
       a.price_micros_per_hour, a.trial, a.run_ms, a.output_length, a.output_bytes, a.log_lines, a.expected_run_ms, a.slow, a.end_code,
       a.end_message, a.end_decided_by, a.offered_at, a.accepted_at, a.ready_at,
       CASE WHEN t.attempt_id = a.id THEN NULL ELSE coalesce(a.ended_at, t.completed_at, a.offered_at) END
     FROM attempts a LEFT JOIN tasks t ON t.id = a.task_id ORDER BY a.rowid`,

    `CREATE TABLE lean_attempt_gpus (
      attempt_id TEXT NOT NULL, place INTEGER NOT NULL, task_id TEXT NOT NULL, gpu_id TEXT NOT NULL,
      milli INTEGER NOT NULL CHECK (milli BETWEEN 1 AND 1000), vram_gb REAL, price_micros_per_hour INTEGER NOT NULL,
      PRIMARY KEY (attempt_id, place)) STRICT, WITHOUT ROWID`,
    `CREATE INDEX attempt_gpus_of_gpu ON lean_attempt_gpus (gpu_id, attempt_id)`,
    `INSERT INTO lean_attempt_gpus
     SELECT m.attempt_id, m.place, a.task_id, m.gpu_id, m.milli, m.vram_gb, m.price_micros_per_hour
     FROM attempt_gpus m CROSS JOIN attempts a ON a.id = m.attempt_id ORDER BY m.attempt_id, m.place`,

    // A payment has its task's id: server/src/payments/payment-ids.ts. The index is of those that have another.
    `CREATE TABLE lean_payments (
      row INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, task_id TEXT NOT NULL, attempt_id TEXT NOT NULL, gpu_id TEXT NOT NULL,
      payer_id TEXT NOT NULL, recipient_id TEXT NOT NULL, amount_micros INTEGER NOT NULL, fee_micros INTEGER NOT NULL,
      refunded_micros INTEGER NOT NULL DEFAULT 0, status TEXT NOT NULL, run_ms INTEGER NOT NULL,
      price_micros_per_hour INTEGER NOT NULL, transaction_hash TEXT, review_until TEXT, created_at TEXT NOT NULL,
      settled_at TEXT) STRICT`,
    `CREATE UNIQUE INDEX payments_of_other_ids ON lean_payments (task_id) WHERE substr(id, 5) <> substr(task_id, 6)`,
    `CREATE INDEX payments_open ON lean_payments (recipient_id) WHERE status IN ('pending', 'disputed')`,
    `CREATE INDEX payments_due ON lean_payments (review_until) WHERE status = 'pending'`,
    `INSERT INTO lean_payments
     SELECT rowid, id, task_id, attempt_id, gpu_id, payer_id, recipient_id, amount_micros, fee_micros, refunded_micros, status, run_ms,
       price_micros_per_hour, transaction_hash, review_until, created_at, settled_at
     FROM payments ORDER BY rowid`,

    ...['tasks', 'attempts', 'attempt_gpus', 'payments'].flatMap((table) => [
      `DROP TABLE ${table}`,
      `ALTER TABLE lean_${table} RENAME TO ${table}`,
    ]),
    // An attempt that has no `ended_at` of its own is the one that its task runs with, or has ended with: then it ended as the task did,
    // unless it has an end of its own.
    `CREATE VIEW task_states AS
     SELECT t.row, t.id, t.renter_id, t.title, t.task_type, t.input_data, t.input_bytes, t.output_data, t.requirements, t.model,
       t.max_price_micros_per_hour, t.max_duration_ms, t.max_wait_ms, t.auto_pay, t.allow_reexecution, t.priority, t.hold_micros,
       t.cost_micros, t.run_ms, t.end_code, t.end_message, t.end_decided_by, t.created_at, t.completed_at, t.data_deleted_at,
       t.reexecution, a.id AS attempt_id, a.gpu_id,
       CASE WHEN t.status <> 'open' THEN t.status WHEN a.id IS NULL THEN 'pending' ELSE 'running' END AS status,
       (SELECT count(*) FROM attempts b WHERE b.task_id = t.id AND b.accepted_at IS NOT NULL AND b.trial = 0) AS attempts_count,
       (SELECT min(b.ready_at) FROM attempts b WHERE b.task_id = t.id) AS started_at,
       coalesce(t.data_deleted_at, t.completed_at, (SELECT max(coalesce(b.ended_at, b.ready_at, b.accepted_at)) FROM attempts b
         WHERE b.task_id = t.id AND b.accepted_at IS NOT NULL), t.created_at) AS updated_at
     FROM tasks t LEFT JOIN attempts a ON a.task_id = t.id AND a.ended_at IS NULL`,
    `CREATE VIEW attempt_states AS
     SELECT a.row, a.id, a.task_id, a.gpu_id, a.agent_id, a.provider_id, a.number, a.fencing_token, a.price_micros_per_hour, a.trial,
       a.output_length, a.output_bytes, a.log_lines, a.expected_run_ms, a.slow, a.offered_at, a.accepted_at, a.ready_at,
       CASE WHEN a.end_code IS NULL AND t.status <> 'open' THEN t.status ELSE a.status END AS status,
       CASE WHEN t.status = 'open' THEN a.progress END AS progress,
       CASE WHEN a.ended_at IS NULL AND t.status <> 'open' THEN t.run_ms ELSE a.run_ms END AS run_ms,
       CASE WHEN a.ended_at IS NULL AND t.status <> 'open' THEN t.cost_micros ELSE 0 END AS cost_micros,
       coalesce(a.end_code, t.end_code) AS end_code, coalesce(a.end_message, t.end_message) AS end_message,
       coalesce(a.end_decided_by, t.end_decided_by) AS end_decided_by, coalesce(a.ended_at, t.completed_at) AS ended_at
     FROM attempts a JOIN tasks t ON t.id = a.task_id`,
    `CREATE VIEW open_attempts AS
     SELECT a.* FROM tasks t INDEXED BY tasks_open CROSS JOIN attempts a ON a.task_id = t.id AND a.ended_at IS NULL
     WHERE t.status = 'open'`,
  ],
]
