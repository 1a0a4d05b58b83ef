import {
  type AuditAnswer,
  type AuditVerdict,
  formatOrb,
  isTaskFinal,
  micros,
  type Micros,
  type Payment,
  ProblemError,
} from '@orbyte/protocol'
import { type Context, isoFromMs, nowIso } from '../context.ts'
import type { Reader, Transaction } from '../db/database.ts'
import type { GpuService } from '../gpus/gpu-service.ts'
import { available, type Ledger } from '../ledger/ledger-service.ts'
import type { DisputeService } from '../payments/dispute-service.ts'
import type { PaymentService } from '../payments/payment-service.ts'
import type { TaskService } from '../tasks/task-service.ts'
import type { StoredTask } from '../tasks/task-store.ts'
import { type Answer, isSameAnswer } from './audit-comparison.ts'
import { type Asked, type Judgement, judgeAnswers } from './audit-judgement.ts'
import * as store from './audit-store.ts'

export type AuditDecisions = ReturnType<typeof createAuditDecisions>
/** Within the transaction: an agent was found wrong too often. */
export type FaultListener = (tx: Transaction, fault: { agentId: string; reason: string }) => Promise<void>

type Parts = {
  ledger: Ledger
  payments: PaymentService
  disputes: DisputeService
  gpus: GpuService
  tasks: TaskService
  isFaultTooMuch: FaultListener
}
type Decided = Extract<Judgement, { kind: 'decided' }>
type Given = AuditAnswer & { readonly task: StoredTask }
/** `over`: it has been decided, now or before. */
export type Considered = 'over' | 'wait' | 'ask' | 'withdraw'

/** Of a task that its GPU says cannot be done, that its agent has not just stopped. */
const notTheInput = ['max_duration', 'output_too_large']

/** How a check ends: the answers are compared, and who is found wrong is not paid, counted, told, and in the end shut out. */
export function createAuditDecisions(context: Context, parts: Parts) {
  const { ledger, payments, disputes, gpus, tasks } = parts
  const { database, events, config } = context

  /** Decides the audit if that can be done now. Else says what it waits for. */
  function consider(auditId: string): Promise<Considered> {
    return database.transaction(async (tx) => {
      const audit = await store.auditById(tx, auditId)
      if (audit?.status !== 'open') return 'over'
      const given = await givenAnswers(tx, auditId)
      const isWithdrawn = given.some(({ paid_by_market, task }) => !paid_by_market && task.data_deleted_at !== null)
      const canAsk = !isWithdrawn && nowIso(context) < audit.decide_by
      const asked = await Promise.all(given.map((one) => askedOf(tx, one)))
      const isSame = (one: Answer, other: Answer) => isSameAnswer(audit.task_type, one, other)
      const judgement = judgeAnswers(asked, { isSame, canAsk })
      if (judgement.kind === 'wait') return isWithdrawn ? 'withdraw' : 'wait'
      if (judgement.kind === 'ask') return 'ask'
      await decide(tx, { audit, given, judgement })
      return 'over'
    })
  }

  async function givenAnswers(reader: Reader, auditId: string): Promise<Given[]> {
    const answers = await store.answersOf(reader, auditId)
    return Promise.all(
      answers.map(async (answer) => ({ ...answer, task: (await tasks.find(reader, answer.task_id))! })),
    )
  }

  async function askedOf(reader: Reader, { task }: Given): Promise<Asked<Answer>> {
    const { id: taskId, status, end, output_data: output } = task
    if (!isTaskFinal(status)) return { taskId, answer: 'open' }
    const blames = status === 'failed' && end?.decided_by === 'agent' && !notTheInput.includes(end.code)
    if (blames) return { taskId, answer: { kind: 'blamed_input' } }
    if (status !== 'completed' || output === null) return { taskId, answer: 'none' }
    return { taskId, answer: { kind: 'result', output, files: await tasks.filesOf(reader, task) } }
  }

  async function decide(tx: Transaction, about: { audit: store.StoredAudit; given: Given[]; judgement: Decided }) {
    const { audit, given, judgement } = about
    const at = nowIso(context)
    const message = messageOf(judgement)
    await store.decideAudit(tx, audit.id, { status: judgement.status, message, at })
    for (const answer of given) {
      const verdict = judgement.verdicts.get(answer.task_id)!
      await store.judgeAnswer(tx, answer.task_id, { verdict, at })
      const refunded = await settle(tx, { audit, answer, verdict })
      if (verdict === 'agreed') await gpus.recordAudit(tx, answer.gpu_id, 'passed')
      if (verdict === 'undecided') await gpus.recordAudit(tx, answer.gpu_id, 'differed')
      if (verdict === 'at_fault') await blame(tx, { audit, answer })
      if (!answer.paid_by_market) await tellRenter(tx, { answer, verdict, refunded })
    }
  }

  /** The provider is paid for what the market asked for, unless the answer was wrong: then the payer has it back. */
  async function settle(tx: Transaction, about: { audit: store.StoredAudit; answer: Given; verdict: AuditVerdict }) {
    const { audit, answer, verdict } = about
    const payment = await payments.ofTask(tx, answer.task_id)
    if (!payment) return 0
    if (verdict === 'at_fault') return giveBack(tx, payment, audit)
    if (answer.paid_by_market && payment.status === 'pending') await payments.settle(tx, payment)
    return 0
  }

  /** What the payer got back: all of it before it was settled; afterwards what the provider still has. */
  async function giveBack(tx: Transaction, payment: Payment, audit: store.StoredAudit): Promise<number> {
    const note = 'GPUs of other owners agree on another result.'
    if (payment.status === 'pending') {
      const reason = `The result was checked (${audit.id}) and is not what others compute.`
      const openedBy = (await store.readAccount(tx)) ?? payment.payer_id
      await disputes.refundReviewed(tx, payment, { openedBy, reason, note })
      return payment.amount
    }
    if (payment.status !== 'completed') return 0
    const there = await ledger.balanceOf(tx, available(payment.recipient_id))
    const back = micros(Math.min(payment.amount - payment.refunded, there))
    if (back <= 0) return 0
    try {
      await payments.refund(tx, payment.id, back)
      return back
    } catch (error) {
      // The renter has closed the account meanwhile: there is nobody to give it to.
      if (error instanceof ProblemError) return 0
      throw error
    }
  }

  async function blame(tx: Transaction, { audit, answer }: { audit: store.StoredAudit; answer: Given }) {
    const { gpu_id, agent_id: agentId, provider_id, task } = answer
    await gpus.recordAudit(tx, gpu_id, 'failed')
    const message = `A task on ${answer.gpu_name} was checked, and GPUs of other owners agree on another result. It was not paid. Look for overclocking, broken memory, or changed model files.`
    await events.append(tx, {
      type: 'audit.failed',
      task_id: task.id,
      user_id: null,
      provider_id,
      data: { audit_id: audit.id, gpu_id, message },
    })
    const since = isoFromMs(context.clock.now() - config.timing.auditMemoryMs)
    const faults = await store.faultsOf(tx, agentId, since)
    if (faults < config.limits.auditsFailedMax) return
    const reason = `${faults} results of this machine were checked and found wrong (orbyte gpus audits ${gpu_id}). Ask the market’s administrator.`
    await parts.isFaultTooMuch(tx, { agentId, reason })
  }

  async function tellRenter(tx: Transaction, about: { answer: Given; verdict: AuditVerdict; refunded: number }) {
    const { answer, verdict, refunded } = about
    const { id: taskId, renter_id } = answer.task
    const status = verdict === 'agreed' ? 'confirmed' : verdict === 'at_fault' ? 'refuted' : 'undecided'
    await tasks.noteReexecution(tx, taskId, status)
    if (status !== 'refuted') return
    const message = `Your task was run again, and others agree on another result. ${formatOrb(refunded as Micros)} ORB of what you paid was given back.`
    await events.append(tx, {
      type: 'task.refuted',
      task_id: taskId,
      user_id: renter_id,
      data: { message, refunded: formatOrb(refunded as Micros) },
    })
  }

  return { consider }
}

function messageOf({ status, verdicts }: Decided): string {
  const count = (verdict: AuditVerdict) => [...verdicts.values()].filter((one) => one === verdict).length
  const given = verdicts.size - count('unanswered')
  switch (status) {
    case 'agreed':
      return `${given} GPUs of different owners gave the same answer.`
    case 'disagreed':
      return `${count('agreed')} of ${given} GPUs gave the same answer, ${count('at_fault')} another.`
    case 'undecided':
      return given < 2
        ? 'Fewer than two GPUs gave an answer.'
        : 'The answers differ, and there is no majority: nobody knows who is right.'
  }
}
