import type { Said } from '../witness.ts'
import type { Evidence, Watch } from './evidence.ts'
import type { AttemptFacts } from './promise-store.ts'

export type Durability = ReturnType<typeof watchDurability>

/** What was acknowledged is durable: to people by an answer, to agents by an `ack`. What has ended stays as it ended. */
export function watchDurability({ store, disk, broken }: Evidence) {
  const submitted = new Set<string>()
  const toComplete = new Set<string>()
  const endedTasks = new Map<string, string>()
  /** What a user's deposits and withdrawals add up to, and how many have had no answer. */
  const moved = new Map<string, { micros: number; unanswered: number }>()
  const isLost = (message: string) => broken('what was acknowledged is durable', message)

  function checkAll() {
    const statuses = store.statuses()
    for (const id of submitted) if (!statuses.has(id)) isLost(`${id} is gone`)
    for (const [id, status] of endedTasks) {
      const found = statuses.get(id)
      if (found !== status) broken('what has ended stays so', `${id} was ${status}, and is ${found}`)
    }
    for (const [userId, { micros, unanswered }] of moved) {
      const found = store.movedOutside(`available:${userId}`)
      if (unanswered === 0 && found !== micros)
        isLost(`${userId} was told of ${micros} that came and went, and the ledger has ${found}`)
    }
  }

  function judgeOutput(taskId: string) {
    const { input_data, attempt_id, status } = store.task(taskId)!
    if (input_data === null || status !== 'completed') return
    const { output = '', files = [] } = JSON.parse(input_data) as { output?: string; files?: unknown[] }
    const found = store.outputOf(taskId)
    if (found !== output)
      broken('output is kept', `${taskId} put out "${output.slice(0, 60)}", and "${found.slice(0, 60)}" is kept`)
    const kept = store.filesOf(taskId, attempt_id!)
    if (kept.length !== files.length)
      broken('output is kept', `${taskId} made ${files.length} files, and ${kept.length} are kept`)
    for (const { sha256 } of kept)
      if (!disk.files.has(sha256)) broken('output is kept', `the file ${sha256.slice(0, 8)} of ${taskId} is gone`)
  }

  /** Whether an attempt that has not ended has taken in what was acknowledged. */
  function isTakenIn({ type, offset = 0, text = '' }: Said, attempt: AttemptFacts): boolean {
    if (type === 'attempt.accepted') return attempt.accepted_at !== null
    if (type === 'attempt.ready') return attempt.ready_at !== null
    if (type === 'attempt.output') return attempt.output_length >= offset + text.length
    return type !== 'attempt.result' && type !== 'attempt.refused'
  }

  const watch: Watch = {
    hear({ type, task_id }) {
      const status = /^task\.(completed|failed|cancelled)$/.exec(type)?.[1]
      if (status === undefined) return
      if (endedTasks.has(task_id!)) broken('a task ends once', `${task_id} ended again: ${type}`)
      endedTasks.set(task_id!, status)
      judgeOutput(task_id!)
    },
    everyHour: checkAll,
    atTheEnd() {
      checkAll()
      for (const id of toComplete)
        if (store.task(id)?.status !== 'completed')
          broken('work gets done', `${id} is ${store.task(id)?.status}, and nothing is wrong any more`)
      for (const { title, count } of store.titlesOfSeveral())
        broken('an idempotency key makes one task', `there are ${count} of "${title}"`)
    },
  }

  return {
    ...watch,
    /** A market process has taken up what was on the disk. */
    opened: checkAll,

    /** What is asked for when all is well again. */
    mustComplete(taskId: string) {
      submitted.add(taskId)
      toComplete.add(taskId)
    },
    submitted: (taskId: string) => void submitted.add(taskId),
    cancelled(taskId: string) {
      const status = store.task(taskId)?.status
      if (status !== 'cancelled') isLost(`${taskId} was cancelled, and is ${status}`)
    },
    dataDeleted(taskId: string) {
      const count = store.countDataOf(taskId)
      if (count > 0) broken('what was deleted is gone', `${count} pieces of the data of ${taskId} are left`)
    },
    /** A user has asked for a deposit, or for a withdrawal (below zero). To be called with the answer: whether it was made. */
    moving(userId: string, micros: number): (isMade: boolean) => void {
      const sum = moved.get(userId) ?? { micros: 0, unanswered: 0 }
      moved.set(userId, sum)
      sum.unanswered++
      return (isMade) => {
        sum.unanswered--
        if (isMade) sum.micros += micros
      }
    },

    /** An agent was told that this is kept. What is said of an attempt that has ended, or never was, changes nothing. */
    acknowledged(said: Said) {
      const attempt = said.attempt_id === undefined ? undefined : store.attempt(said.attempt_id)
      if (!attempt || attempt.ended_at !== null || isTakenIn(said, attempt)) return
      isLost(`${said.type} ${said.outcome ?? ''} of ${attempt.id} was acknowledged, and it is ${attempt.status}`)
    },
    /** An agent has removed its copy of a result. */
    resultForgotten(attemptId: string) {
      const attempt = store.attempt(attemptId)
      if (attempt && attempt.ended_at === null)
        broken('a result is kept until it is acknowledged', `${attemptId} is forgotten, and is ${attempt.status}`)
    },
  }
}
