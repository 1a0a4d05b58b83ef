import {
  compiled,
  formatOrb,
  micros,
  type Micros,
  type NewTask,
  problem,
  ProblemError,
  taskInputs,
  type TaskType,
  durationMsMaxByType,
} from '@orbyte/protocol'
import { z } from 'zod'
import { type Context, newId, nowIso } from '../context.ts'
import type { Transaction } from '../db/database.ts'
import type { GpuService } from '../gpus/gpu-service.ts'
import { transactionOnce } from '../http/idempotency-store.ts'
import type { Caller } from '../http/route.ts'
import type { Ledger } from '../ledger/ledger-service.ts'
import type { ModelService } from '../models/model-service.ts'
import { costOf } from '../payments/pricing.ts'
import type { AttemptService } from '../tasks/attempt-service.ts'
import { summaryOf } from '../tasks/task-service.ts'
import type { OpenTask, StoredTask } from '../tasks/task-store.ts'
import type { ExplanationService } from './explanation-service.ts'
import { wantedOf } from './matching.ts'
import type { Scheduler } from './scheduler-service.ts'

type Parts = {
  gpus: GpuService
  models: ModelService
  ledger: Ledger
  attempts: AttemptService
  scheduler: Scheduler
  explanations: ExplanationService
}
export type SubmissionService = ReturnType<typeof createSubmissionService>

const seededTypes: readonly TaskType[] = ['text_generation', 'image_generation', 'model_training']

/** How a task comes into the market: what fits and what it costs, then the hold and the task in one transaction. */
export function createSubmissionService(context: Context, parts: Parts) {
  const { gpus, models, ledger, attempts, scheduler, explanations } = parts

  /** The task’s input as its type’s schema says, and the model that it needs. */
  function understand(task: NewTask) {
    const parsed = compiled(taskInputs[task.task_type]).safeParse(task.input_data)
    if (!parsed.success) throw invalidInput(parsed.error)
    const input = withSeed(task.task_type, parsed.data as NewTask['input_data'])
    const asked =
      typeof input.model === 'string'
        ? input.model
        : typeof input.base_model === 'string'
          ? input.base_model
          : undefined
    const model = models.resolve(task.task_type, asked)
    const modelName = model?.name ?? asked ?? null
    if (asked !== undefined && !model && !gpus.registry.all().some((gpu) => gpu.ownModels.includes(asked)))
      throw problem(
        'invalid_request',
        `input_data.model: there is no model ${asked}. GET /api/models lists what there is.`,
      )
    const { task_type, requirements, max_price_per_hour = null } = task
    const asking = { task_type, requirements, model: modelName, max_price_per_hour }
    const { timings } = scheduler
    const wanted = wantedOf(asking, model, { timings })
    if (model && wanted.part && wanted.part.vramGb < model.vram_gb)
      throw problem(
        'invalid_request',
        `requirements.min_vram_gb: ${model.name} needs ${model.vram_gb} GiB of VRAM, and a share of a GPU has what is asked for. Ask for that or more.`,
      )
    return { input, wanted }
  }

  /**
   * Where chance is involved, a task has a seed: drawn here if its renter names none. So any result can be had again, and the
   * market's own checks, which need one, look like everybody's tasks.
   */
  function withSeed(taskType: TaskType, input: NewTask['input_data']): NewTask['input_data'] {
    if (!seededTypes.includes(taskType) || input.seed !== undefined) return input
    return { ...input, seed: Buffer.from(context.random.bytes(4)).readUInt32BE() }
  }

  /** The most that the task may cost, in money and time. `dearest` is the default for the maximum price. */
  function bounds(task: NewTask, dearest: Micros | null) {
    const maxPrice = task.max_price_per_hour ?? dearest
    const maxDurationMs = task.max_duration_ms ?? durationMsMaxByType[task.task_type]
    const whole = maxPrice === null ? null : costOf(maxPrice, maxDurationMs)
    const hold = whole === null ? null : micros(Math.min(whole, task.max_cost ?? whole))
    return { maxPrice, maxDurationMs, hold }
  }

  function prepare(task: NewTask, renterId: string): StoredTask {
    const { input, wanted } = understand(task)
    const dearest = scheduler.dearestFitting(wanted)
    const { maxPrice, maxDurationMs, hold } = bounds(task, dearest)
    if (dearest === null && !task.wait) throw explanations.nothingFits(wanted)
    if (maxPrice === null || hold === null)
      throw problem('price_required', 'No GPU fits now, so there is no price to go by. Give max_price_per_hour.')
    const now = nowIso(context)
    return {
      id: newId(context, 'task'),
      renter_id: renterId,
      title: task.title ?? null,
      task_type: task.task_type,
      status: 'pending',
      gpu_id: null,
      input_data: input,
      output_data: null,
      requirements: task.requirements,
      model: wanted.modelName,
      max_price_per_hour: micros(Math.max(1, maxPrice)),
      max_duration_ms: maxDurationMs,
      max_wait_ms: task.max_wait_ms,
      auto_pay: task.auto_pay,
      allow_reexecution: task.allow_reexecution,
      priority: task.priority,
      hold: micros(Math.max(1, hold)),
      cost: null,
      run_ms: 0,
      attempts_count: 0,
      attempt_id: null,
      end: null,
      created_at: now,
      updated_at: now,
      started_at: null,
      completed_at: null,
      data_deleted_at: null,
      reexecution: null,
    }
  }

  /** Holds the money and stores the tasks: all of them or none. They wait in memory once that is durable. */
  async function submit(tx: Transaction, caller: Pick<Caller, 'userId'>, tasks: NewTask[]): Promise<StoredTask[]> {
    if (scheduler.pause.paused)
      throw problem(
        'market_paused',
        `The market accepts no new tasks at the moment: ${scheduler.pause.reason ?? 'it is paused'}`,
      )
    const prepared = tasks.map((task, index) =>
      namingTask(tasks.length > 1 ? index : null, () => prepare(task, caller.userId)),
    )
    const queued: OpenTask[] = []
    for (const task of prepared) {
      await ledger.hold(tx, { taskId: task.id, userId: caller.userId, amount: task.hold as Micros })
      const data = { task_type: task.task_type, hold: formatOrb(task.hold) }
      queued.push(await attempts.queue(tx, task, data))
    }
    checkPending(caller.userId)
    tx.afterCommit(() => {
      for (const task of queued) scheduler.enqueue(task)
    })
    return prepared
  }

  /** With what has just been submitted. */
  function checkPending(renterId: string) {
    const { pendingTasksPerUserMax: mostTasks, pendingInputBytesPerUserMax: mostBytes } = context.config.limits
    const { count, inputBytes } = attempts.pendingOf(renterId)
    if (count > mostTasks)
      throw problem(
        'too_many_pending_tasks',
        `At most ${mostTasks} of your tasks may wait at a time. Submit more when some have started.`,
      )
    if (inputBytes > mostBytes)
      throw problem(
        'too_many_pending_bytes',
        `The inputs of your waiting tasks may have ${mostBytes} bytes together; with this they would have ${inputBytes}. Submit more when some have started.`,
        { bytes: inputBytes, bytes_max: mostBytes },
      )
  }

  return {
    submit,
    create: (caller: Caller, task: NewTask) =>
      transactionOnce(context, caller, async (tx) => summaryOf((await submit(tx, caller, [task]))[0]!)),
    createBatch: (caller: Caller, tasks: NewTask[]) =>
      transactionOnce(context, caller, async (tx) => ({ items: (await submit(tx, caller, tasks)).map(summaryOf) })),

    estimate(caller: Caller, task: NewTask) {
      const { wanted } = understand(task)
      const { maxPrice, maxDurationMs, hold } = bounds(task, scheduler.dearestFitting(wanted))
      const estimate = explanations.estimate(wanted, caller.userId)
      const [best] = estimate.offers
      return {
        ...estimate,
        max_price_per_hour: maxPrice,
        max_duration_ms: maxDurationMs,
        hold,
        price_per_minute: best ? costOf(best.price_per_hour, 60_000) : null,
      }
    },
  }
}

function invalidInput(error: z.ZodError): z.ZodError {
  return new z.ZodError(error.issues.map((issue) => ({ ...issue, path: ['input_data', ...issue.path] })))
}

/** Says which task of a batch a problem is about. */
function namingTask<T>(index: number | null, work: () => T): T {
  try {
    return work()
  } catch (error) {
    if (index === null) throw error
    if (error instanceof z.ZodError)
      throw new z.ZodError(error.issues.map((issue) => ({ ...issue, path: ['tasks', index, ...issue.path] })))
    if (error instanceof ProblemError)
      throw new ProblemError(error.code, `tasks.${index}: ${error.message}`, {
        details: error.details,
        fields: error.fields,
      })
    throw error
  }
}
