import type { Task, TaskFile } from '@orbyte/protocol'
import { type Context, isoFromMs, nowIso } from '../context.ts'
import type { Transaction } from '../db/database.ts'
import type { NewEvent } from '../event-store.ts'
import { gpusOfOpenAttempts, type StoredAttemptGpu } from './attempt-gpu-store.ts'
import * as store from './attempt-store.ts'
import { endAttempt } from './ending-store.ts'
import type { Reported } from './reported.ts'
import type { AttemptFailure } from './task-ending.ts'
import * as files from './task-file-store.ts'
import type { TaskFiles } from './task-files.ts'
import * as tasks from './task-store.ts'
import { createWaitingTasks } from './waiting-tasks.ts'

export type AttemptService = ReturnType<typeof createAttemptService>

/** An attempt and the task that it is for, as the scheduler knows them. */
export type Subject = {
  readonly attempt: store.StoredAttempt
  /** What it has of which GPUs; none: all of the one that it names. */
  readonly gpus: readonly StoredAttemptGpu[]
  readonly task: tasks.EndableTask
}

type About = Pick<NewEvent, 'type' | 'data'>
/** How an attempt ended that nobody had accepted. */
type Declined = AttemptFailure & { status: 'refused' | 'lost' }
/** The beginning of an attempt, until it is written. */
export type Beginning = {
  readonly acceptedAtMs: number
  /** To be set when its agent says that it is ready before what begins it `isWritten`: then one is written with the other. */
  readyAtMs: number | null
  isWritten: boolean
}

/**
 * What is written about attempts: each change of state with its event in one transaction, and only while the attempt is open. A
 * function that finds it ended changes nothing.
 */
export function createAttemptService(context: Context, taskFiles: TaskFiles) {
  const { database, events } = context
  const waiting = createWaitingTasks(events)

  function tell(tx: Transaction, { attempt, task }: Subject, { type, data }: About): Promise<void> {
    const [attempt_id, provider_id] = [attempt.id, attempt.provider_id]
    return events.append(tx, { type, task_id: task.id, attempt_id, user_id: task.renter_id, provider_id, data })
  }

  function write(subject: Subject, event: About, change: (tx: Transaction) => Promise<boolean>): Promise<boolean> {
    return database.transaction(async (tx) => {
      const changed = await change(tx)
      if (changed) await tell(tx, subject, event)
      return changed
    })
  }

  function tellEnded(tx: Transaction, subject: Subject, { status, end }: AttemptFailure) {
    const data = { status, end, run_ms: 0, gpu_id: subject.attempt.gpu_id }
    return tell(tx, subject, { type: 'attempt.ended', data })
  }

  /** What an earlier attempt had put out no longer counts. */
  async function tellReady(tx: Transaction, subject: Subject) {
    if (subject.attempt.number > 1) await tell(tx, subject, { type: 'output.reset', data: {} })
    await tell(tx, subject, { type: 'attempt.ready', data: { gpu_id: subject.attempt.gpu_id } })
  }

  return {
    /** Stores a task that was just submitted. Returns what is to be kept of it in memory while it is open. */
    async queue(tx: Transaction, task: tasks.StoredTask, data: NewEvent['data']): Promise<tasks.OpenTask> {
      const inputBytes = await tasks.insertTask(tx, task)
      waiting.add(tx, { id: task.id, renterId: task.renter_id, inputBytes, input: task.input_data })
      await events.append(tx, { type: 'task.queued', task_id: task.id, user_id: task.renter_id, data })
      return tasks.openTaskOf(task)
    },

    /** What a renter has waiting, with what the commit that is being written adds. */
    pendingOf: waiting.pendingOf,
    attemptsCountOf: tasks.attemptsCountOf,
    usesSince: tasks.usesSince,

    /** What the task is to work on; null: it does not wait any more. */
    async inputOf(taskId: string): Promise<Task['input_data']> {
      return waiting.takeInput(taskId) ?? database.read((reader) => tasks.inputOfWaiting(reader, taskId))
    },

    /** What an attempt was to work on, and the names of the files that it has brought, whole. */
    workOf({ attempt, task }: Subject): Promise<{ input: Task['input_data']; files: string[] }> {
      return database.read(async (reader) => ({
        input: await tasks.inputOf(reader, task.id),
        files: (await files.filesOfAttempt(reader, task.id, attempt.id)).map(({ name }) => name),
      }))
    },

    /**
     * Stores the attempt, which an agent has accepted: the task is running from now on, with it. False, and nothing is stored: the
     * task does not wait any more.
     */
    accept(subject: Subject, beginning: Beginning) {
      const acceptedAt = isoFromMs(beginning.acceptedAtMs)
      return database.transaction(async (tx) => {
        beginning.isWritten = true
        const readyAt = beginning.readyAtMs === null ? null : isoFromMs(beginning.readyAtMs)
        const status = readyAt === null ? 'accepted' : 'running'
        if (!(await store.insertAttempt(tx, subject, { status, acceptedAt, readyAt }))) return false
        await tell(tx, subject, { type: 'attempt.accepted', data: { gpu_id: subject.attempt.gpu_id } })
        if (readyAt !== null) await tellReady(tx, subject)
        return true
      })
    },

    prepare(subject: Subject, progress: string) {
      return write(subject, { type: 'attempt.preparing', data: { progress } }, async (tx) => {
        await store.moveAttempt(tx, subject.attempt, { to: 'preparing' })
        return store.writeProgress(tx, subject.attempt, progress)
      })
    },

    /** Charged from `readyAtMs` on. */
    ready(subject: Subject, readyAtMs: number) {
      const readyAt = isoFromMs(readyAtMs)
      return database.transaction(async (tx) => {
        if (!(await store.moveAttempt(tx, subject.attempt, { to: 'running', readyAt }))) return false
        await tellReady(tx, subject)
        return true
      })
    },

    /** False: it has ended, or what came before `offset` is not kept. */
    output(subject: Subject, part: { offset: number; text: string; runMs: number }) {
      const { offset, text, runMs } = part
      const bytes = Buffer.byteLength(text)
      return write(subject, { type: 'output.appended', data: { offset, text } }, async (tx) => {
        const grown = await store.growOutput(tx, subject.attempt, { offset, length: text.length, bytes })
        if (grown) await store.tickAttempt(tx, subject.attempt, runMs)
        return grown
      })
    },

    /** `offset`: lines before these. False: it has ended, or what came before is not kept. */
    log(subject: Subject, part: { offset: number; lines: string[]; runMs: number }) {
      const { offset, lines, runMs } = part
      return write(subject, { type: 'log.appended', data: { lines } }, async (tx) => {
        const grown = await store.growLog(tx, subject.attempt, { offset, lines: lines.length })
        if (grown) await store.tickAttempt(tx, subject.attempt, runMs)
        return grown
      })
    },

    /**
     * Keeps a part of a file. Returns the whole file once all of it is here, null before, and 'misfit' if the part does not
     * follow the one before. A part that is here already changes nothing.
     */
    filePart(
      { attempt }: Subject,
      part: { name: string; offset: number; bytes: Uint8Array; size: number; runMs: number },
    ) {
      const file = { attemptId: attempt.id, name: part.name }
      return database.transaction(async (tx): Promise<Buffer | 'misfit' | null> => {
        if (!(await store.isOpen(tx, attempt)) || (await files.hasFile(tx, attempt.task_id, file))) return null
        let { length } = await files.lengthOfFileParts(tx, file)
        if (part.offset > length || part.offset + part.bytes.length > part.size) return 'misfit'
        await store.tickAttempt(tx, attempt, part.runMs)
        if (part.offset === length && part.bytes.length > 0) {
          await files.insertFilePart(tx, file, part)
          length += part.bytes.length
        }
        return length === part.size ? Buffer.concat(await files.fileParts(tx, file)) : null
      })
    },

    /** A finished file. False, and nothing changed: it is here already, or the attempt has ended. */
    file(subject: Subject, { file, bytes, runMs }: { file: Omit<TaskFile, 'url'>; bytes: Uint8Array; runMs: number }) {
      const { task, attempt } = subject
      const url = `/api/tasks/${task.id}/files/${file.name}`
      const written = () =>
        write(subject, { type: 'file.added', data: { ...file, url } }, async (tx) => {
          if (!(await store.isOpen(tx, attempt))) return false
          await store.tickAttempt(tx, attempt, runMs)
          await files.deleteFileParts(tx, { attemptId: attempt.id, name: file.name })
          return files.insertFile(tx, { ...file, task_id: task.id, attempt_id: attempt.id, at: nowIso(context) })
        })
      return taskFiles.keep(file.sha256, { bytes, write: written })
    },

    /** Keeps how long attempts have run: what is charged if their renters cancel now. */
    tick(ticks: { attempt: store.AttemptRef; runMs: number }[]) {
      return database.transaction(async (tx) => {
        for (const { attempt, runMs } of ticks) await store.tickAttempt(tx, attempt, runMs)
      })
    },

    /** Keeps what its run time was measured against, in the transaction that ends it, and tells where it was far too long. */
    async noteSpeed(tx: Transaction, subject: Subject, speed: { runMs: number; expectedRunMs: number; slow: boolean }) {
      const { runMs, expectedRunMs, slow } = speed
      await store.writeSpeed(tx, subject.attempt, { expectedRunMs, slow })
      const data = { gpu_id: subject.attempt.gpu_id, run_ms: runMs, expected_run_ms: expectedRunMs }
      if (slow) await tell(tx, subject, { type: 'attempt.slow', data })
    },

    /** Stores an attempt that its agent has not accepted: its task waits on. False, and nothing is stored: it does not wait. */
    async decline(tx: Transaction, subject: Subject, { status, end }: Declined): Promise<boolean> {
      const endedAt = nowIso(context)
      if (!(await store.insertDeclined(tx, subject, { status, end, endedAt }))) return false
      await tellEnded(tx, subject, { status, end })
      return true
    },

    /** Ends the attempt uncharged and puts its task back into the queue. False, and nothing changed: it has ended. */
    async requeue(tx: Transaction, subject: Subject, failure: AttemptFailure & { reported: Reported }) {
      const { attempt } = subject
      if (!(await endAttempt(tx, attempt, { ...failure, at: nowIso(context) }))) return false
      if (failure.reported.hasFiles) await files.deletePartsOf(tx, attempt.id)
      await tellEnded(tx, subject, failure)
      await tell(tx, subject, { type: 'task.requeued', data: { end: failure.end } })
      return true
    },

    /** What was waiting and running when the market stopped, with what has been tried for each task and how far it came. */
    recover() {
      return database.read(async (reader) => {
        const histories = await store.historyOfOpenTasks(reader)
        const open = (await tasks.openTasks(reader)).map(({ task, isWaiting, inputBytes }) => {
          const { id, renter_id: renterId } = task
          waiting.found({ id, renterId, inputBytes, input: null }, isWaiting)
          return { task, history: histories.get(id) ?? store.untried }
        })
        const gpus = await gpusOfOpenAttempts(reader)
        const attempts = (await store.openAttempts(reader)).map((attempt) => ({
          attempt,
          gpus: gpus.get(attempt.id) ?? [],
          fileBytes: new Map<string, number>(),
          unfinishedFiles: new Set<string>(),
        }))
        const byId = new Map(attempts.map((one) => [one.attempt.id, one]))
        for (const { attempt_id, name, size_bytes, is_whole } of await files.filesOfOpenAttempts(reader)) {
          const known = byId.get(attempt_id)!
          known.fileBytes.set(name, size_bytes)
          if (is_whole === 0) known.unfinishedFiles.add(name)
        }
        return { tasks: open, attempts }
      })
    },
  }
}
