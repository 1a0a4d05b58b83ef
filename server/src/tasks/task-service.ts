import {
  type End,
  isTaskFinal,
  problem,
  Task,
  type TaskFile,
  type TaskImages,
  type TaskStatus,
  type TaskSummary,
  type TaskType,
} from '@orbyte/protocol'
import { z } from 'zod'
import { type Context, isoFromMs, nowIso } from '../context.ts'
import type { Reader, Transaction } from '../db/database.ts'
import { transactionOnce } from '../http/idempotency-store.ts'
import { pageFrom, type PageInput, startOf, startRowOf } from '../http/page.ts'
import type { Caller } from '../http/route.ts'
import type { PaymentService } from '../payments/payment-service.ts'
import type { AccountService } from '../users/account-service.ts'
import { attemptsOfGpu, attemptsOfTask, openAttemptOf } from './attempt-store.ts'
import { endTask, type Ending } from './task-ending.ts'
import { deleteFilesOfTask, filesOfAttempt, tasksWithImages } from './task-file-store.ts'
import type { TaskFiles } from './task-files.ts'
import * as store from './task-store.ts'

/** Of an account's tasks the newest are in its export, up to this many and this much; the rest is in GET /api/tasks/. */
const exportedMax = 10_000
const exportedBytesMax = 16_000_000
/** Tasks that are read, cancelled or cleared at a time. */
const pageOfTasks = 100
const pageOfOldTasks = 20
const ExportedTask = Task.omit({ files: true, attempts: true, waiting: true, payment_id: true })

type Parts = { payments: PaymentService; accounts: AccountService; files: TaskFiles }
export type TaskService = ReturnType<typeof createTaskService>

/** Tasks as their renters see them: lists, details, cancelling, deleting data. How they come to run is the scheduler's. */
export function createTaskService(context: Context, { payments, accounts, files }: Parts) {
  const { database } = context

  /** The task, if the caller may see it. A foreign task is not told from one that does not exist. */
  async function visible(
    reader: Reader,
    taskId: string,
    caller: Pick<Caller, 'userId' | 'role'>,
  ): Promise<store.StoredTask> {
    const task = await store.taskById(reader, taskId)
    if (!task || (task.renter_id !== caller.userId && caller.role !== 'admin'))
      throw problem('not_found', `There is no task ${taskId} of yours. List yours with GET /api/tasks/.`)
    return task
  }

  async function filesOf(reader: Reader, task: Pick<store.StoredTask, 'id' | 'attempt_id'>): Promise<TaskFile[]> {
    if (task.attempt_id === null) return []
    const rows = await filesOfAttempt(reader, task.id, task.attempt_id)
    return rows.map((file) => ({ ...file, url: `/api/tasks/${task.id}/files/${file.name}` }))
  }

  /** Ends a running or waiting task, by its renter's wish unless `end` says otherwise: charged up to the last acknowledged tick. */
  async function cancel(tx: Transaction, task: store.EndableTask, otherEnd?: End): Promise<void> {
    const attempt = (await openAttemptOf(tx, task.id)) ?? null
    const message = attempt?.ready_at
      ? 'Cancelled by the renter; the time that it ran is charged.'
      : 'Cancelled by the renter before it ran.'
    const ending: Ending = {
      status: 'cancelled',
      end: otherEnd ?? { code: 'cancelled', message, decided_by: 'renter' },
      runMs: attempt?.run_ms ?? 0,
      outputData: null,
    }
    await endTask(context, tx, { payments, task, attempt, ending })
  }

  async function deleteData(taskId: string, check: (task: store.StoredTask) => void): Promise<void> {
    const hashes = await database.transaction(async (tx) => {
      const task = await store.taskById(tx, taskId)
      if (!task) return []
      check(task)
      await context.events.deleteProduce(tx, taskId)
      await store.deleteTaskData(tx, taskId, nowIso(context))
      return deleteFilesOfTask(tx, taskId)
    })
    await files.letGo(hashes)
  }

  accounts.contribute('tasks', async (reader, userId) => {
    const exported: z.input<typeof ExportedTask>[] = []
    const ofRenter = { renterId: userId, status: null, taskType: null, limit: pageOfTasks }
    let bytes = 0
    for (let before = startOf(ofRenter), more = true; more;) {
      const page = await store.tasksOfRenter(reader, { ...ofRenter, before })
      for (const { id } of page) {
        const task = z.encode(ExportedTask, (await store.taskById(reader, id))!)
        bytes += Buffer.byteLength(JSON.stringify(task))
        if (bytes > exportedBytesMax || exported.length === exportedMax) return exported
        exported.push(task)
        before = id
      }
      more = page.length === pageOfTasks
    }
    return exported
  })

  return {
    visible,
    filesOf,
    find: store.taskById,
    noteReexecution: store.writeReexecution,
    /** Deletes what an ended task has read and made, whoever's it is. */
    clear: (taskId: string) => deleteData(taskId, () => {}),

    async list(caller: Caller, query: PageInput & { status?: TaskStatus; task_type?: TaskType }) {
      const rows = await database.read((reader) =>
        store.tasksOfRenter(reader, {
          renterId: caller.userId,
          status: query.status ?? null,
          taskType: query.task_type ?? null,
          before: startOf(query),
          limit: query.limit + 1,
        }),
      )
      return pageFrom(rows, query.limit)
    },

    images(caller: Caller, page: PageInput) {
      return database.read(async (reader) => {
        const query = { renterId: caller.userId, before: startOf(page), limit: page.limit + 1 }
        const { items, next_cursor } = pageFrom(await tasksWithImages(reader, query), page.limit)
        const withImages: TaskImages[] = []
        for (const { attempt_id, ...task } of items) {
          const made = await filesOf(reader, { id: task.id, attempt_id })
          withImages.push({ ...task, images: made.filter(({ mime_type }) => mime_type.startsWith('image/')) })
        }
        return { items: withImages, next_cursor }
      })
    },

    /** All but why it is waiting, which only the scheduler knows. */
    get(caller: Caller, taskId: string): Promise<Omit<Task, 'waiting'> & { stored: store.StoredTask }> {
      return database.read(async (reader) => {
        const stored = await visible(reader, taskId, caller)
        const payment = await payments.ofTask(reader, taskId)
        return {
          ...stored,
          stored,
          files: await filesOf(reader, stored),
          attempts: await attemptsOfTask(reader, taskId),
          payment_id: payment?.id ?? null,
        }
      })
    },

    cancel(caller: Caller, taskId: string): Promise<TaskSummary> {
      return transactionOnce(context, caller, async (tx) => {
        const task = await visible(tx, taskId, caller)
        if (isTaskFinal(task.status))
          throw problem('task_finished', `${taskId} has ended already: ${task.status}. There is nothing to cancel.`)
        await cancel(tx, task)
        return summaryOf((await store.taskById(tx, taskId))!)
      })
    },

    attemptsOfGpu(gpuId: string, page: PageInput) {
      const query = { gpuId, before: startRowOf(page), limit: page.limit + 1 }
      return database.read(async (reader) =>
        pageFrom(await attemptsOfGpu(reader, query), page.limit, ({ row }) => String(row)),
      )
    },

    async deleteData(caller: Caller, taskId: string): Promise<void> {
      await database.read((reader) => visible(reader, taskId, caller))
      await deleteData(taskId, (task) => {
        if (!isTaskFinal(task.status))
          throw problem(
            'task_not_finished',
            `${taskId} has not ended yet. Cancel it first: POST /api/tasks/${taskId}/cancel.`,
          )
      })
    },

    /** Results are kept for a time, then their data goes; the record and its money stay. */
    async deleteOldData(): Promise<void> {
      const before = isoFromMs(context.clock.now() - context.config.timing.resultsKeptMs)
      for (let more = true; more;) {
        const query = { before, limit: pageOfOldTasks }
        const ids = await database.read((reader) => store.tasksWithOldData(reader, query))
        await Promise.all(ids.map((id) => deleteData(id, () => {})))
        more = ids.length === pageOfOldTasks
      }
    },

    /** Cancels whatever a user still has open: for a suspended renter. */
    async cancelAllOf(tx: Transaction, userId: string, end: End): Promise<void> {
      for (let after = '', more = true; more;) {
        const page = await store.openTasksOfRenter(tx, { renterId: userId, after, limit: pageOfTasks })
        for (const task of page) {
          await cancel(tx, task, end)
          after = task.id
        }
        more = page.length === pageOfTasks
      }
    },
  }
}

/** Without what deleting a task's data must reach: a summary may be kept elsewhere, like the reply to an idempotency key. */
export function summaryOf(task: store.StoredTask): TaskSummary {
  const { input_data: _input, output_data: _output, requirements: _requirements, ...rest } = task
  const { model: _model, attempt_id: _attempt, data_deleted_at: _deleted, reexecution: _again, ...summary } = rest
  return summary
}
