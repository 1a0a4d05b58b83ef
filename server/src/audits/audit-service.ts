import type { AuditStatus, Model } from '@orbyte/protocol'
import { type Context, every, nowIso } from '../context.ts'
import type { Reader, Transaction } from '../db/database.ts'
import type { StoredEvent } from '../event-store.ts'
import type { MarketGpu } from '../gpus/gpu-registry.ts'
import type { GpuService } from '../gpus/gpu-service.ts'
import { type PageInput, pageFrom, startOf } from '../http/page.ts'
import type { Caller } from '../http/route.ts'
import type { Ledger } from '../ledger/ledger-service.ts'
import type { ModelService } from '../models/model-service.ts'
import type { DisputeService } from '../payments/dispute-service.ts'
import type { PaymentService } from '../payments/payment-service.ts'
import type { Completed } from '../scheduler/attempt-endings.ts'
import type { Scheduler } from '../scheduler/scheduler-service.ts'
import type { SubmissionService } from '../scheduler/submission-service.ts'
import type { SpeedService } from '../speeds/speed-service.ts'
import type { TaskService } from '../tasks/task-service.ts'
import type { UserService } from '../users/user-service.ts'
import { canaryInput } from './audit-canaries.ts'
import { createAuditChoice } from './audit-choice.ts'
import { isRepeatable } from './audit-comparison.ts'
import { createAuditDecisions, type FaultListener } from './audit-decisions.ts'
import { type AuditFunds, createAuditFunds } from './audit-funds.ts'
import { checkChance } from './audit-judgement.ts'
import { createAuditProgress } from './audit-progress.ts'
import { type AskedGpu, createAuditRounds } from './audit-rounds.ts'
import * as store from './audit-store.ts'
import { createOpenAudits } from './open-audits.ts'

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

/** How long a renter may wait for a check to give way. */
const roomMs = 200
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
  const open = createOpenAudits()

  const funds = createAuditFunds(context, parts)
  const choice = createAuditChoice(context, { registry: gpus.registry, models, speeds, scheduler, dues, chance })
  const rounds = createAuditRounds(context, { funds, gpus, tasks, submissions, asked: noteAsked })
  const decisions = createAuditDecisions(context, {
    ...parts,
    isFaultTooMuch: async (tx, fault) => {
      for (const listen of faultListeners) await listen(tx, fault)
    },
  })
  const { pause } = scheduler
  const progress = createAuditProgress(context, { choice, rounds, decisions, open, models, tasks, pause })

  function noteAsked(asked: AskedGpu) {
    open.note(asked)
    dues.delete(asked.gpuId)
  }

  let isSwept = false
  async function look() {
    // What an earlier process has left can only be there once.
    if (!isSwept) await progress.sweep()
    isSwept = true
    for (const auditId of open.ids()) await progress.goOn(auditId)
    await progress.makeRoom()
    if (!isOff && !pause.paused && open.size() < openMax) await openCanary()
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

  /** A renter's task has run here: its GPU may be due, or the task itself be asked of another. */
  async function taskCompleted({ task, model, gpuId, isSlow }: Completed): Promise<void> {
    const gpu = gpus.registry.get(gpuId)
    if (!gpu || open.ofTask(task.id) !== null) return
    if (!isSlow && chance() >= checkChance(gpu, config.auditShare)) return
    const canRerun =
      task.allow_reexecution &&
      open.size() < openMax &&
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
    // A renter is no judge of their own tasks.
    const owners = new Set([gpu.ownerId, task.renter_id])
    const [peer] = choice.peers({ deviceClass, question, owners })
    if (!peer) return false
    const about = { task_type: task.task_type, model: model.name, device_class: deviceClass }
    return rounds.openReexecution(about, { taskId, gpu, chosen: [peer], input: task.input_data })
  }

  const attempt = (work: () => Promise<void>) => {
    work().catch((error: unknown) => log.error({ error }, 'a check of a GPU could not go on'))
  }

  let cancelRoom: (() => void) | null = null
  function hear({ type, task_id: taskId }: StoredEvent) {
    if (taskId === null || open.size() === 0) return
    const own = open.ofTask(taskId)
    if (own !== null && /^task\.(completed|failed|cancelled)$/.test(type)) attempt(() => progress.goOn(own))
    if (own !== null || type !== 'task.queued') return
    // Once it has been offered to whoever is free; and not for each of many.
    cancelRoom ??= context.clock.after(roomMs, () => {
      cancelRoom = null
      attempt(progress.makeRoom)
    })
  }

  for (const question of await database.read(store.openQuestions)) noteAsked(question)
  const stops = [
    context.events.subscribe(hear),
    ...(isOff ? [] : [scheduler.onCompleted((completed) => attempt(() => taskCompleted(completed)))]),
    ...(isOff && open.size() === 0 ? [] : [every(context, config.timing.auditEveryMs, look)]),
    () => cancelRoom?.(),
  ]

  return {
    /** `listen` is called within the transaction in which an agent was found wrong too often. */
    onFaultTooMuch: (listen: FaultListener) => void faultListeners.push(listen),
    /** Within the transaction that lifts its suspension: what it was found wrong in counts no more. */
    forgive: (tx: Transaction, agentId: string) => store.forgiveFaults(tx, agentId),

    list: (query: AuditQuery) => database.read((reader) => listAudits(reader, query, funds)),

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

type AuditQuery = PageInput & { status?: AuditStatus | undefined; gpu_id?: string | undefined }

async function listAudits(reader: Reader, query: AuditQuery, funds: AuditFunds) {
  const { status = null, gpu_id: gpuId = null, limit } = query
  const rows = await store.listAudits(reader, { status, gpuId, before: startOf(query), limit: limit + 1 })
  return { ...pageFrom(rows, limit), spent: await funds.spent(reader), budget_per_day: funds.budget }
}
