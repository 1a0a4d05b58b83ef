import type { Micros, TaskFile } from '@orbyte/protocol'
import { type Context, isoFromMs, nowIso } from '../context.ts'
import type { Transaction } from '../db/database.ts'
import type { NewEvent } from '../event-store.ts'
import * as store from './attempt-store.ts'
import type { AttemptFailure } from './task-ending.ts'
import * as files from './task-file-store.ts'
import {
  countPendingTasks,
  insertTask,
  markStarted,
  openTasks,
  requeueTask,
  startTask,
  type StoredTask,
  taskById,
} from './task-store.ts'

export type AttemptService = ReturnType<typeof createAttemptService>

/** An attempt and the task that it is for, as the scheduler knows them. */
export type Subject = { readonly attempt: store.StoredAttempt; readonly task: StoredTask }

/**
 * What is written about attempts: each change of state with its event in one transaction, and only while the attempt is open. A
 * function that finds it ended changes nothing.
 */
export function createAttemptService(context: Context) {
  const { database, events } = context

  const about = ({ attempt, task }: Subject) => ({
    task_id: task.id,
    attempt_id: attempt.id,
    user_id: task.renter_id,
    provider_id: attempt.provider_id,
  })

  function write(
    subject: Subject,
    event: Pick<NewEvent, 'type' | 'data'>,
    change: (tx: Transaction) => Promise<boolean>,
  ): Promise<boolean> {
    return database.transaction(async (tx) => {
      const changed = await change(tx)
      if (changed) await events.append(tx, { ...event, ...about(subject) })
      return changed
    })
  }

  return {
    /** Stores a task that was just submitted. */
    async queue(tx: Transaction, task: StoredTask, data: NewEvent['data']) {
      await insertTask(tx, task)
      await events.append(tx, { type: 'task.queued', task_id: task.id, user_id: task.renter_id, data })
    },

    pendingCountOf: countPendingTasks,

    offer(subject: Subject) {
      const { attempt } = subject
      return write(
        subject,
        { type: 'attempt.offered', data: { gpu_id: attempt.gpu_id, number: attempt.number } },
        async (tx) => {
          await store.insertAttempt(tx, attempt)
          return true
        },
      )
    },

    /** The task is running from now on, with this attempt. */
    accept(subject: Subject) {
      const { attempt, task } = subject
      const at = nowIso(context)
      return write(subject, { type: 'attempt.accepted', data: { gpu_id: attempt.gpu_id } }, async (tx) => {
        if (!(await store.moveAttempt(tx, attempt.id, { from: ['offered'], to: 'accepted', acceptedAt: at })))
          return false
        if (!(await startTask(tx, task.id, { id: attempt.id, gpuId: attempt.gpu_id, at })))
          throw new Error(`${attempt.id} is on offer, and ${task.id} does not wait`)
        return true
      })
    },

    prepare(subject: Subject, progress: string) {
      return write(subject, { type: 'attempt.preparing', data: { progress } }, (tx) =>
        store.moveAttempt(tx, subject.attempt.id, { from: ['accepted', 'preparing'], to: 'preparing', progress }),
      )
    },

    /** Charged from `readyAtMs` on. What an earlier attempt had put out no longer counts. */
    ready(subject: Subject, readyAtMs: number) {
      const { attempt, task } = subject
      const at = isoFromMs(readyAtMs)
      return write(subject, { type: 'attempt.ready', data: { gpu_id: attempt.gpu_id } }, async (tx) => {
        if (!(await store.moveAttempt(tx, attempt.id, { from: ['accepted', 'preparing'], to: 'running', readyAt: at })))
          return false
        await markStarted(tx, task.id, at)
        await events.append(tx, { type: 'output.reset', ...about(subject) })
        return true
      })
    },

    /** False: it has ended, or what came before `offset` is not kept. */
    output(subject: Subject, part: { offset: number; text: string; runMs: number }) {
      const { offset, text, runMs } = part
      return write(subject, { type: 'output.appended', data: { offset, text } }, async (tx) => {
        const grown = await store.growOutput(tx, subject.attempt.id, { offset, length: text.length })
        if (grown) await store.tickAttempt(tx, subject.attempt.id, runMs)
        return grown
      })
    },

    /** `seq`: of the agent's message, which counts once. */
    log(subject: Subject, { seq, lines }: { seq: number; lines: string[] }) {
      return write(subject, { type: 'log.appended', data: { lines } }, (tx) =>
        store.growLog(tx, subject.attempt.id, { seq, lines: lines.length }),
      )
    },

    /**
     * Keeps a part of a file. Returns the whole file once all of it is here, null before, and 'misfit' if the part does not
     * follow the one before. A part that is here already changes nothing.
     */
    filePart({ attempt }: Subject, part: { name: string; offset: number; bytes: Uint8Array; size: number }) {
      const file = { attemptId: attempt.id, name: part.name }
      return database.transaction(async (tx): Promise<Buffer | 'misfit' | null> => {
        if (!(await store.isOpen(tx, attempt.id)) || (await files.hasFile(tx, file))) return null
        let length = await files.lengthOfFileParts(tx, file)
        if (part.offset > length || part.offset + part.bytes.length > part.size) return 'misfit'
        if (part.offset === length && part.bytes.length > 0) {
          await files.insertFilePart(tx, file, part)
          length += part.bytes.length
        }
        return length === part.size ? Buffer.concat(await files.fileParts(tx, file)) : null
      })
    },

    /** A finished file, whose bytes are in the file store already. */
    file(subject: Subject, file: Omit<TaskFile, 'url'>) {
      const { task, attempt } = subject
      const url = `/api/tasks/${task.id}/files/${file.name}`
      return write(subject, { type: 'file.added', data: { ...file, url } }, async (tx) => {
        if (!(await store.isOpen(tx, attempt.id))) return false
        await files.deleteFileParts(tx, { attemptId: attempt.id, name: file.name })
        return files.insertFile(tx, { ...file, task_id: task.id, attempt_id: attempt.id, at: nowIso(context) })
      })
    },

    /** Keeps how long attempts have run: what is charged if their renters cancel now. */
    tick(ticks: { attemptId: string; runMs: number }[]) {
      return database.transaction(async (tx) => {
        for (const { attemptId, runMs } of ticks) await store.tickAttempt(tx, attemptId, runMs)
      })
    },

    /** Ends the attempt uncharged and puts its task back into the queue. */
    async requeue(tx: Transaction, subject: Subject, failure: AttemptFailure) {
      const { attempt, task } = subject
      const { status, end } = failure
      const at = nowIso(context)
      if (!(await store.endAttempt(tx, attempt.id, { status, end, runMs: 0, cost: 0 as Micros, at }))) return false
      const hadBegun = await requeueTask(tx, task.id, { attemptId: attempt.id, at })
      const data = { status, end, run_ms: 0, gpu_id: attempt.gpu_id }
      await events.append(tx, { type: 'attempt.ended', ...about(subject), data })
      if (hadBegun) await events.append(tx, { type: 'task.requeued', ...about(subject), data: { end } })
      return true
    },

    async attemptsCountOf(tx: Transaction, taskId: string): Promise<number> {
      return (await taskById(tx, taskId))!.attempts_count
    },

    /** What was waiting and running when the market stopped, with what has been tried for each task. */
    recover() {
      return database.read(async (reader) => {
        const tasks = []
        for (const task of await openTasks(reader)) tasks.push({ task, ...(await store.historyOf(reader, task.id)) })
        return { tasks, attempts: await store.openAttempts(reader) }
      })
    },
  }
}
