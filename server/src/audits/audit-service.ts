import { type AuditStatus, type Model, ProblemError } from '@orbyte/protocol'
import { type Context, every, nowIso } from '../context.ts'
import type { Transaction } from '../db/database.ts'
import type { StoredEvent } from '../event-store.ts'
import type { MarketGpu } from '../gpus/gpu-registry.ts'
import type { GpuService } from '../gpus/gpu-service.ts'
import { type PageInput, pageFrom, startOf } from '../http/page.ts'
import type { Caller } from '../http/route.ts'
import type { Ledger } from '../ledger/ledger-service.ts'
import type { ModelService } from '../models/model-service.ts'
import type { DisputeService } from '../payments/dispute-service.ts'
import type { PaymentService } from '../payments/payment-service.ts'
import type { Completed, Scheduler } from '../scheduler/scheduler-service.ts'
import type { SubmissionService } from '../scheduler/submission-service.ts'
import type { SpeedService } from '../speeds/speed-service.ts'
import type { TaskService } from '../tasks/task-service.ts'
import type { UserService } from '../users/user-service.ts'
import { canaryInput } from './audit-canaries.ts'
import { createAuditChoice } from './audit-choice.ts'
import { isRepeatable } from './audit-comparison.ts'
import { createAuditDecisions, type FaultListener } from './audit-decisions.ts'
import { createAuditFunds } from './audit-funds.ts'
import { checkChance } from './audit-judgement.ts'
import { type AskedGpu, createAuditRounds } from './audit-rounds.ts'
import * as store from './audit-store.ts'

export type AuditService = Awaited<ReturnType<typeof createAuditService>>

export type AuditParts = {
  users: UserService
  ledger: Ledger
  payments: PaymentService
  disputes: DisputeService
  gpus: GpuService
  models: ModelService
  tasks: TaskService
  speeds: SpeedService
  scheduler: Scheduler
  submissions: SubmissionService
}

/** Checks that are open at a time. */
const openMax = 8

/**
 * The market's own checks of GPUs. A canary asks two GPUs of different owners the same; a renter's task that may be run again is
 * asked of a second one. Who is asked, with what: audit-choice.ts. What it may cost: audit-funds.ts. What the answers mean:
 * audit-judgement.ts, audit-decisions.ts. They run where nothing else would, and make room for renters.
 */
export async function createAuditService(context: Context, parts: AuditParts) {
  const { gpus, models, tasks, speeds, scheduler, submissions } = parts
  const { database, config, log } = context
  const chance = () => Buffer.from(context.random.bytes(4)).readUInt32BE() / 0x1_0000_0000
  const isOff = config.auditMicrosPerDay === 0 || models.deterministic().length === 0
  const faultListeners: FaultListener[] = []
  const dues = new Set(await database.read(store.readDues))
  /** What open audits ask, by task. */
  const asked = new Map<string, { auditId: string; gpuId: string }>()
  const open = new Set<string>()

  const funds = createAuditFunds(context, parts)
  const choice = createAuditChoice(context, { registry: gpus.registry, models, speeds, scheduler, dues, chance })
  const rounds = createAuditRounds(context, { funds, gpus, tasks, submissions, asked: noteAsked })
  const decisions = createAuditDecisions(context, {
    ...parts,
    isFaultTooMuch: async (tx, fault) => {
      for (const listen of faultListeners) await listen(tx, fault)
    },
  })

  function noteAsked({ auditId, taskId, gpuId }: AskedGpu) {
    open.add(auditId)
    asked.set(taskId, { auditId, gpuId })
    dues.delete(gpuId)
  }

  /** Takes it as far as it goes now. */
  async function goOn(auditId: string): Promise<void> {
    const next = await decisions.consider(auditId)
    if (next === 'over') await end(auditId)
    if (next === 'ask' && !scheduler.pause.paused) await askAnother(auditId)
    if (next === 'withdraw') await cancelTasks(tasksOf(auditId))
  }

  const tasksOf = (auditId: string) => [...asked].filter(([, one]) => one.auditId === auditId).map(([taskId]) => taskId)

  const auditWithAnswers = (auditId: string) =>
    database.read(
      async (reader) => [await store.auditById(reader, auditId), await store.answersOf(reader, auditId)] as const,
    )

  async function askAnother(auditId: string) {
    const [audit, answers] = await auditWithAnswers(auditId)
    const model = models.deterministic().find(({ name }) => name === audit?.model)
    if (!audit || !model) return
    const [gpu] = choice.peers({
      deviceClass: audit.device_class,
      question: { taskType: audit.task_type, model },
      owners: new Set(answers.map(({ provider_id }) => provider_id)),
    })
    if (gpu) await rounds.askAnother(auditId, gpu)
  }

  /** It is over; copies of what a renter had asked for are kept no longer than that. */
  async function end(auditId: string) {
    open.delete(auditId)
    for (const taskId of tasksOf(auditId)) asked.delete(taskId)
    const [audit, answers] = await auditWithAnswers(auditId)
    if (audit?.kind !== 'reexecution') return
    for (const { task_id, paid_by_market } of answers) if (paid_by_market) await tasks.clear(task_id)
  }

  let isSwept = false
  async function look() {
    // What an earlier process has left can only be there once.
    if (!isSwept) for (const taskId of await database.read(store.copiesLeft)) await tasks.clear(taskId)
    isSwept = true
    for (const auditId of [...open]) await goOn(auditId)
    await makeRoom()
    if (!isOff && !scheduler.pause.paused && open.size < openMax) await openCanary()
  }

  async function openCanary() {
    const next = choice.next()
    if (!next) return
    const { gpu, peer, question } = next
    const { taskType, model } = question
    const given = canaryInput(taskType, chance)
    if (!given) return
    // Most renters name no model where the first one will do.
    const isDefault = models.resolve(taskType, undefined)?.name === model.name
    const input = isDefault && chance() < 0.7 ? given : { ...given, model: model.name }
    const about = { task_type: taskType, model: model.name, device_class: choice.classOf(gpu) }
    await rounds.openCanary(about, { chosen: [gpu, peer], input })
  }

  /** A check in progress gives way to a renter who waits for its GPU. */
  async function makeRoom() {
    const wanted = new Set(choice.wanted([...asked.values()].map(({ gpuId }) => gpuId)))
    await cancelTasks([...asked].filter(([, { gpuId }]) => wanted.has(gpuId)).map(([taskId]) => taskId))
  }

  async function cancelTasks(taskIds: readonly string[]) {
    const userId = taskIds.length === 0 ? null : await database.read(store.readAccount)
    if (userId === null) return
    const caller: Caller = { userId, role: 'user', sessionId: null, address: '', userAgent: null, idempotency: null }
    for (const taskId of taskIds)
      await tasks.cancel(caller, taskId).catch((error: unknown) => {
        // It has ended by itself, or is the renter's own.
        if (!(error instanceof ProblemError)) throw error
      })
  }

  /** A renter's task has run here: its GPU may be due, or the task itself be asked of another. */
  async function taskCompleted({ task, model, gpuId }: Completed): Promise<void> {
    const gpu = gpus.registry.get(gpuId)
    if (!gpu || asked.has(task.id) || chance() >= checkChance(gpu, config.auditShare)) return
    const canRerun =
      task.allow_reexecution &&
      open.size < openMax &&
      model?.deterministic === true &&
      gpu.modelFormats.includes(model.format)
    if (canRerun && (await reexecute(task.id, { gpu, model }))) return
    if (dues.has(gpuId)) return
    dues.add(gpuId)
    await database.transaction((tx) => store.insertDue(tx, gpuId, nowIso(context)))
  }

  /** False: nobody could be asked. */
  async function reexecute(taskId: string, { gpu, model }: { gpu: MarketGpu; model: Model }): Promise<boolean> {
    const task = await database.read((reader) => tasks.find(reader, taskId))
    if (!task?.input_data || !isRepeatable(task.task_type, task.input_data)) return false
    const question = { taskType: task.task_type, model }
    const deviceClass = choice.classOf(gpu)
    if (choice.peers({ deviceClass, question, owners: new Set([gpu.ownerId]) }).length === 0) return false
    const about = { task_type: task.task_type, model: model.name, device_class: deviceClass }
    const auditId = await rounds.openReexecution(about, { taskId, gpu })
    noteAsked({ auditId, taskId, gpuId: gpu.id })
    await goOn(auditId)
    return true
  }

  const attempt = (work: () => Promise<void>) => {
    work().catch((error: unknown) => log.error({ error }, 'a check of a GPU could not go on'))
  }

  let isRoomDue = false
  function hear({ type, task_id }: StoredEvent) {
    if (task_id === null || asked.size === 0) return
    const own = asked.get(task_id)
    if (own && /^task\.(completed|failed|cancelled)$/.test(type)) attempt(() => goOn(own.auditId))
    if (own || type !== 'task.queued' || isRoomDue) return
    isRoomDue = true
    // Once it has been offered to whoever is free.
    context.clock.after(0, () => {
      isRoomDue = false
      attempt(makeRoom)
    })
  }

  for (const question of await database.read(store.openQuestions)) noteAsked(question)
  const stops = [
    context.events.subscribe(hear),
    ...(isOff ? [] : [scheduler.onCompleted((completed) => attempt(() => taskCompleted(completed)))]),
    ...(isOff && asked.size === 0 ? [] : [every(context, config.timing.auditEveryMs, look)]),
  ]

  return {
    /** `listen` is called within the transaction in which an agent was found wrong too often. */
    onFaultTooMuch: (listen: FaultListener) => void faultListeners.push(listen),
    /** Within the transaction that lifts its suspension: what it was found wrong in counts no more. */
    forgive: (tx: Transaction, agentId: string) => store.forgiveFaults(tx, agentId),

    list(query: PageInput & { status?: AuditStatus | undefined; gpu_id?: string | undefined }) {
      return database.read(async (reader) => {
        const { status = null, gpu_id: gpuId = null, limit } = query
        const rows = await store.listAudits(reader, { status, gpuId, before: startOf(query), limit: limit + 1 })
        return { ...pageFrom(rows, limit), spent: await funds.spent(reader), budget_per_day: funds.budget }
      })
    },

    async ofGpu(caller: Caller, { gpu_id: gpuId, ...page }: PageInput & { gpu_id: string }) {
      await gpus.assertOwner(caller, gpuId)
      const query = { gpuId, before: startOf(page), limit: page.limit + 1 }
      return database.read(async (reader) => pageFrom(await store.auditsOfGpu(reader, query), page.limit))
    },

    stop() {
      for (const stop of stops) stop()
    },
  }
}
