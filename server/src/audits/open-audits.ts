import type { AskedGpu } from './audit-rounds.ts'

export type OpenAudits = ReturnType<typeof createOpenAudits>

/** The checks that have not been decided, and which of the market's tasks they have put to which GPU. On disk they are rows. */
export function createOpenAudits() {
  const byTask = new Map<string, AskedGpu>()
  const ids = new Set<string>()
  return {
    note(asked: AskedGpu) {
      ids.add(asked.auditId)
      byTask.set(asked.taskId, asked)
    },
    ids: () => [...ids],
    size: () => ids.size,
    /** The audit that a task of the market's belongs to; a renter's task belongs to none. */
    ofTask: (taskId: string) => byTask.get(taskId)?.auditId ?? null,
    asked: () => [...byTask.values()],
    tasksOf: (auditId: string) => [...byTask.values()].filter((one) => one.auditId === auditId),
    remove(auditId: string) {
      ids.delete(auditId)
      for (const { taskId, auditId: own } of [...byTask.values()]) if (own === auditId) byTask.delete(taskId)
    },
  }
}
