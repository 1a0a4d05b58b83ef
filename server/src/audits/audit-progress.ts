import { ProblemError } from '@orbyte/protocol'
import type { Context } from '../context.ts'
import type { Caller } from '../http/route.ts'
import type { ModelService } from '../models/model-service.ts'
import type { MarketPause } from '../scheduler/market-store.ts'
import type { TaskService } from '../tasks/task-service.ts'
import type { AuditChoice } from './audit-choice.ts'
import type { AuditDecisions } from './audit-decisions.ts'
import type { AskedGpu, AuditRounds } from './audit-rounds.ts'
import * as store from './audit-store.ts'
import type { OpenAudits } from './open-audits.ts'

type Parts = {
  choice: AuditChoice
  rounds: AuditRounds
  decisions: AuditDecisions
  open: OpenAudits
  models: ModelService
  tasks: TaskService
  pause: MarketPause
}

/** How checks that have begun go on: the next GPU is asked, the answers are judged, renters go first, nothing is left behind. */
export function createAuditProgress({ database }: Pick<Context, 'database'>, parts: Parts) {
  const { choice, rounds, decisions, open, models, tasks, pause } = parts

  const auditWithAnswers = (auditId: string) =>
    database.read(
      async (reader) => [await store.auditById(reader, auditId), await store.answersOf(reader, auditId)] as const,
    )

  async function askAnother(auditId: string) {
    const [audit, answers] = await auditWithAnswers(auditId)
    const model = models.deterministic().find(({ name }) => name === audit?.model)
    if (!audit || !model) return
    const subject = answers.find(({ paid_by_market }) => !paid_by_market)
    const task = subject && (await database.read((reader) => tasks.find(reader, subject.task_id)))
    // A renter is no judge of their own tasks.
    const owners = new Set([...answers.map(({ provider_id }) => provider_id), ...(task ? [task.renter_id] : [])])
    const question = { taskType: audit.task_type, model }
    const [gpu] = choice.peers({ deviceClass: audit.device_class, question, owners })
    if (gpu) await rounds.askAnother(auditId, gpu)
  }

  /** It is over; copies of what a renter had asked for are kept no longer than that. */
  async function end(auditId: string) {
    open.remove(auditId)
    const [audit, answers] = await auditWithAnswers(auditId)
    if (audit?.kind !== 'reexecution') return
    for (const { task_id, paid_by_market } of answers) if (paid_by_market) await tasks.clear(task_id)
  }

  async function cancel(asked: readonly AskedGpu[]) {
    const userId = asked.length === 0 ? null : await database.read(store.readAccount)
    if (userId === null) return
    const caller: Caller = { userId, role: 'user', sessionId: null, userAgent: null, idempotency: null }
    for (const { taskId } of asked)
      await tasks.cancel(caller, taskId).catch((error: unknown) => {
        // It has ended by itself.
        if (!(error instanceof ProblemError)) throw error
      })
  }

  return {
    /** Takes a check as far as it goes now. */
    async goOn(auditId: string): Promise<void> {
      const next = await decisions.consider(auditId)
      if (next === 'over') await end(auditId)
      if (next === 'ask' && !pause.paused) await askAnother(auditId)
      if (next === 'withdraw') await cancel(open.tasksOf(auditId))
    },

    /** What runs gives way to a renter who waits for its GPU. */
    async makeRoom(): Promise<void> {
      const asked = open.asked()
      const wanted = new Set(choice.wanted(asked.map(({ gpuId }) => gpuId)))
      await cancel(asked.filter(({ gpuId }) => wanted.has(gpuId)))
    },

    /** Copies of renters' tasks that a crash has left. */
    async sweep(): Promise<void> {
      for (const taskId of await database.read(store.copiesLeft)) await tasks.clear(taskId)
    },
  }
}
