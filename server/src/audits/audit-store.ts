import type {
  Audit,
  AuditAnswer,
  AuditKind,
  AuditStatus,
  AuditVerdict,
  GpuAudit,
  Micros,
  TaskType,
} from '@orbyte/protocol'
import type { Reader, Row, Transaction } from '../db/database.ts'
import { isPaymentOf } from '../payments/payment-ids.ts'

export type StoredAudit = Omit<Audit, 'answers' | 'cost'>
export type StoredAnswer = Omit<AuditAnswer, 'gpu_name'>
type AuditRow = Row & StoredAudit
type AnswerRow = Row & Omit<AuditAnswer, 'paid_by_market'> & { audit_id: string; paid_by_market: number; cost: number }

const auditColumns = 'id, kind, status, task_type, model, device_class, message, created_at, decide_by, decided_at'
const answerColumns = `a.task_id, a.audit_id, a.gpu_id, coalesce(g.name, a.gpu_id) AS gpu_name, a.agent_id, a.provider_id, a.verdict,
  a.paid_by_market, a.asked_at, a.judged_at`
/** What a task of the market's has cost it, or may still. */
const costOfAnswer = `CASE WHEN a.paid_by_market = 0 THEN 0 WHEN t.status = 'open' THEN t.hold_micros
  ELSE coalesce(t.cost_micros, 0) - coalesce(p.refunded_micros, 0) END`
const answers = `audit_answers a JOIN tasks t ON t.id = a.task_id LEFT JOIN payments p ON ${isPaymentOf('p', 'a.task_id')}
  LEFT JOIN gpus g ON g.id = a.gpu_id`

export async function insertAudit(tx: Transaction, audit: StoredAudit) {
  const a = audit
  await tx.run(
    `INSERT INTO audits (id, kind, status, task_type, model, device_class, created_at, decide_by)
     VALUES (?, ?, 'open', ?, ?, ?, ?, ?)`,
    ...[a.id, a.kind, a.task_type, a.model, a.device_class, a.created_at, a.decide_by],
  )
}

export async function insertAnswer(tx: Transaction, auditId: string, answer: StoredAnswer) {
  const a = answer
  await tx.run(
    `INSERT INTO audit_answers (task_id, audit_id, gpu_id, agent_id, provider_id, paid_by_market, verdict, asked_at)
     VALUES (?, ?, ?, ?, ?, ?, 'asked', ?)`,
    ...[a.task_id, auditId, a.gpu_id, a.agent_id, a.provider_id, a.paid_by_market ? 1 : 0, a.asked_at],
  )
}

export function auditById(reader: Reader, id: string): Promise<StoredAudit | undefined> {
  return reader.get<AuditRow>(`SELECT ${auditColumns} FROM audits WHERE id = ?`, id)
}

/** The market's tasks of open audits. */
export async function openQuestions(reader: Reader): Promise<{ auditId: string; taskId: string; gpuId: string }[]> {
  const rows = await reader.all<{ audit_id: string; task_id: string; gpu_id: string }>(
    `SELECT a.audit_id, a.task_id, a.gpu_id FROM audits au JOIN audit_answers a ON a.audit_id = au.id
     WHERE au.status = 'open' AND a.paid_by_market = 1 ORDER BY a.task_id`,
  )
  return rows.map(({ audit_id, task_id, gpu_id }) => ({ auditId: audit_id, taskId: task_id, gpuId: gpu_id }))
}

/** The market's copies of renters' tasks whose checks are over, with their data still there. */
export async function copiesLeft(reader: Reader): Promise<string[]> {
  const rows = await reader.all<{ id: string }>(
    `SELECT t.id FROM audits au JOIN audit_answers a ON a.audit_id = au.id JOIN tasks t ON t.id = a.task_id
     WHERE au.kind = 'reexecution' AND au.status <> 'open' AND a.paid_by_market = 1 AND t.data_deleted_at IS NULL`,
  )
  return rows.map(({ id }) => id)
}

export async function answersOf(reader: Reader, auditId: string): Promise<AuditAnswer[]> {
  const rows = await reader.all<AnswerRow>(
    `SELECT ${answerColumns} FROM ${answers} WHERE a.audit_id = ? ORDER BY a.asked_at, a.task_id`,
    auditId,
  )
  return rows.map(toAnswer)
}

const toAnswer = ({ audit_id: _, cost: _cost, paid_by_market, ...row }: AnswerRow): AuditAnswer => ({
  ...row,
  paid_by_market: paid_by_market === 1,
})

export async function decideAudit(
  tx: Transaction,
  id: string,
  decision: { status: AuditStatus; message: string; at: string },
) {
  await tx.run(
    'UPDATE audits SET status = ?, message = ?, decided_at = ? WHERE id = ?',
    ...[decision.status, decision.message, decision.at, id],
  )
}

export async function judgeAnswer(tx: Transaction, taskId: string, judged: { verdict: AuditVerdict; at: string }) {
  await tx.run(
    'UPDATE audit_answers SET verdict = ?, judged_at = ? WHERE task_id = ?',
    ...[judged.verdict, judged.at, taskId],
  )
}

/** What the market's checks since then have cost, and may still cost. */
export async function spentSince(reader: Reader, since: string): Promise<Micros> {
  const row = await reader.get<{ sum: number }>(
    `SELECT coalesce(sum(${costOfAnswer}), 0) AS sum FROM ${answers} WHERE a.paid_by_market = 1 AND a.asked_at > ?`,
    since,
  )
  return row!.sum as Micros
}

/** How often an agent was found wrong since then, without what was forgiven. */
export async function faultsOf(reader: Reader, agentId: string, since: string): Promise<number> {
  const row = await reader.get<{ count: number }>(
    `SELECT count(*) AS count FROM audit_answers
     WHERE agent_id = ? AND verdict = 'at_fault' AND forgiven = 0 AND judged_at > ?`,
    ...[agentId, since],
  )
  return row!.count
}

export async function forgiveFaults(tx: Transaction, agentId: string) {
  await tx.run(`UPDATE audit_answers SET forgiven = 1 WHERE agent_id = ? AND verdict = 'at_fault'`, agentId)
}

export async function readDues(reader: Reader): Promise<string[]> {
  const rows = await reader.all<{ gpu_id: string }>('SELECT gpu_id FROM audit_dues ORDER BY due_at, gpu_id')
  return rows.map(({ gpu_id }) => gpu_id)
}

export async function insertDue(tx: Transaction, gpuId: string, at: string) {
  await tx.run('INSERT INTO audit_dues (gpu_id, due_at) VALUES (?, ?) ON CONFLICT DO NOTHING', gpuId, at)
}

export async function deleteDue(tx: Transaction, gpuId: string) {
  await tx.run('DELETE FROM audit_dues WHERE gpu_id = ?', gpuId)
}

/** Newest first, ids below `before`. */
export async function listAudits(
  reader: Reader,
  query: { status: AuditStatus | null; gpuId: string | null; before: string; limit: number },
): Promise<Audit[]> {
  const rows = await reader.all<AuditRow>(
    `SELECT ${auditColumns} FROM audits WHERE id < ?1 AND (?2 IS NULL OR status = ?2)
       AND (?3 IS NULL OR id IN (SELECT audit_id FROM audit_answers WHERE gpu_id = ?3)) ORDER BY id DESC LIMIT ?4`,
    ...[query.before, query.status, query.gpuId, query.limit],
  )
  return Promise.all(rows.map(async (row) => ({ ...row, ...(await answersAndCost(reader, row.id)) })))
}

async function answersAndCost(reader: Reader, auditId: string): Promise<Pick<Audit, 'answers' | 'cost'>> {
  const rows = await reader.all<AnswerRow>(
    `SELECT ${answerColumns}, ${costOfAnswer} AS cost FROM ${answers} WHERE a.audit_id = ? ORDER BY a.asked_at, a.task_id`,
    auditId,
  )
  return { answers: rows.map(toAnswer), cost: rows.reduce((sum, { cost }) => sum + cost, 0) as Micros }
}

type GpuAuditRow = Row & GpuAudit & { kind: AuditKind; verdict: AuditVerdict; task_type: TaskType }

/** Decided ones in which the GPU was asked, newest first. */
export function auditsOfGpu(
  reader: Reader,
  query: { gpuId: string; before: string; limit: number },
): Promise<GpuAudit[]> {
  return reader.all<GpuAuditRow>(
    `SELECT au.id, a.task_id, au.kind, a.verdict, au.task_type, au.model, au.message, a.judged_at
     FROM audit_answers a JOIN audits au ON au.id = a.audit_id
     WHERE a.gpu_id = ? AND a.judged_at IS NOT NULL AND au.id < ? ORDER BY au.id DESC LIMIT ?`,
    ...[query.gpuId, query.before, query.limit],
  )
}

export async function readAccount(reader: Reader): Promise<string | null> {
  const row = await reader.get<{ value: string }>(`SELECT value FROM settings WHERE name = 'audit_account'`)
  return row?.value ?? null
}

export async function keepAccount(tx: Transaction, userId: string) {
  await tx.run(`INSERT INTO settings (name, value) VALUES ('audit_account', ?)`, userId)
}
