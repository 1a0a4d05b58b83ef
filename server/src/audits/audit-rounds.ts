import { durationMsMaxByType, isTaskFinal, type NewTask, type Task, type TaskType } from '@orbyte/protocol'
import { type Context, isoFromMs, newId, nowIso } from '../context.ts'
import type { Transaction } from '../db/database.ts'
import type { MarketGpu } from '../gpus/gpu-registry.ts'
import type { GpuService } from '../gpus/gpu-service.ts'
import { costOf, runMsFor } from '../payments/pricing.ts'
import type { SubmissionService } from '../scheduler/submission-service.ts'
import type { TaskService } from '../tasks/task-service.ts'
import type { AuditFunds } from './audit-funds.ts'
import { askedMax } from './audit-judgement.ts'
import * as store from './audit-store.ts'

export type AuditRounds = ReturnType<typeof createAuditRounds>
/** An open audit asks this GPU with this task. */
export type AskedGpu = { readonly auditId: string; readonly taskId: string; readonly gpuId: string }

type Parts = {
  funds: AuditFunds
  gpus: GpuService
  tasks: TaskService
  submissions: SubmissionService
  /** After the commit. */
  asked: (asked: AskedGpu) => void
}
type Input = NonNullable<Task['input_data']>
type Question = { readonly chosen: readonly MarketGpu[]; readonly input: Input }
type Terms = { readonly userId: string; readonly durationMs: number }
type NewAudit = Pick<store.StoredAudit, 'kind' | 'task_type' | 'model' | 'device_class'>

/** Less than this is not worth asking for: a model has to be loaded, and may be slow. */
const durationMsMin = 60_000

/** How a check begins: the same question to GPUs of different owners, as tasks of the market's own, within its budget. */
export function createAuditRounds(context: Context, { funds, gpus, tasks, submissions, asked }: Parts) {
  const { database, clock, config } = context

  async function open(tx: Transaction, audit: NewAudit): Promise<store.StoredAudit> {
    const nowMs = clock.now()
    const stored: store.StoredAudit = {
      ...audit,
      id: newId(context, 'audit'),
      status: 'open',
      message: null,
      created_at: isoFromMs(nowMs),
      decide_by: isoFromMs(nowMs + config.timing.auditMs),
      decided_at: null,
    }
    await store.insertAudit(tx, stored)
    return stored
  }

  /** Who pays, and how long each of the GPUs may run: as long as a renter's task, if the budget allows it. Null: it does not. */
  async function termsFor(tx: Transaction, taskType: TaskType, chosen: readonly MarketGpu[]): Promise<Terms | null> {
    const left = await funds.left(tx)
    const price = chosen.reduce((sum, gpu) => sum + Math.max(1, gpu.priceMicrosPerHour), 0)
    // Each hold is rounded up.
    const durationMs = Math.min(durationMsMaxByType[taskType], runMsFor(price, Math.max(0, left - chosen.length)))
    const userId = durationMs < durationMsMin ? null : await funds.account(tx)
    return userId === null ? null : { userId, durationMs }
  }

  /** Asks each of the GPUs. */
  async function ask(
    tx: Transaction,
    audit: store.StoredAudit,
    { chosen, input, userId, durationMs }: Question & Terms,
  ): Promise<void> {
    for (const gpu of chosen) {
      const price = Math.max(1, gpu.priceMicrosPerHour)
      await funds.fill(tx, { userId, amount: costOf(price, durationMs), key: `${audit.id}:${gpu.id}` })
      const [task] = await submissions.submit(tx, { userId }, [taskFor(gpu, { audit, input, durationMs })])
      await store.insertAnswer(tx, audit.id, answerOf(gpu, { taskId: task!.id, paidByMarket: true }))
      await store.deleteDue(tx, gpu.id)
      await gpus.recordAudited(tx, gpu.id)
      tx.afterCommit(() => asked({ auditId: audit.id, taskId: task!.id, gpuId: gpu.id }))
    }
  }

  function answerOf(gpu: MarketGpu, about: { taskId: string; paidByMarket: boolean }): store.StoredAnswer {
    return {
      task_id: about.taskId,
      gpu_id: gpu.id,
      agent_id: gpu.agentId!,
      provider_id: gpu.ownerId,
      verdict: 'asked',
      paid_by_market: about.paidByMarket,
      asked_at: nowIso(context),
      judged_at: null,
    }
  }

  function taskFor(gpu: MarketGpu, about: { audit: store.StoredAudit; input: Input; durationMs: number }): NewTask {
    return {
      task_type: about.audit.task_type,
      input_data: about.input,
      requirements: { gpu_id: gpu.id },
      max_price_per_hour: gpu.priceMicrosPerHour,
      max_duration_ms: about.durationMs,
      max_wait_ms: config.timing.auditWaitMs,
      wait: true,
      // It is paid when the answers have been compared.
      auto_pay: false,
      allow_reexecution: false,
      // After everybody's.
      priority: -1,
    }
  }

  return {
    /** A question that the market made up, to two GPUs. False, and nothing changed: there is no money for it. */
    openCanary(audit: Omit<NewAudit, 'kind'>, question: Question): Promise<boolean> {
      return database.transaction(async (tx) => {
        const terms = await termsFor(tx, audit.task_type, question.chosen)
        if (terms) await ask(tx, await open(tx, { ...audit, kind: 'canary' }), { ...question, ...terms })
        return terms !== null
      })
    },

    /** A renter's task, which `gpu` has completed, is the first answer; another GPU is asked the same. False: as above. */
    openReexecution(
      audit: Omit<NewAudit, 'kind'>,
      { taskId, gpu, ...question }: { taskId: string; gpu: MarketGpu } & Question,
    ): Promise<boolean> {
      return database.transaction(async (tx) => {
        const terms = await termsFor(tx, audit.task_type, question.chosen)
        if (!terms) return false
        const opened = await open(tx, { ...audit, kind: 'reexecution' })
        await store.insertAnswer(tx, opened.id, answerOf(gpu, { taskId, paidByMarket: false }))
        await tasks.noteReexecution(tx, taskId, 'waiting')
        await ask(tx, opened, { ...question, ...terms })
        return true
      })
    },

    /** One more GPU, unless somebody else is being asked, or as many as may be have been. */
    async askAnother(auditId: string, gpu: MarketGpu): Promise<void> {
      await database.transaction(async (tx) => {
        const audit = await store.auditById(tx, auditId)
        const answers = await store.answersOf(tx, auditId)
        const isTaken = answers.some(({ provider_id }) => provider_id === gpu.ownerId)
        if (audit?.status !== 'open' || isTaken || answers.length >= askedMax) return
        const earlier = await Promise.all(answers.map(({ task_id }) => tasks.find(tx, task_id)))
        const input = earlier[0]?.input_data
        if (!input || earlier.some((task) => !task || !isTaskFinal(task.status))) return
        const terms = await termsFor(tx, audit.task_type, [gpu])
        if (terms) await ask(tx, audit, { chosen: [gpu], input, ...terms })
      })
    },
  }
}
