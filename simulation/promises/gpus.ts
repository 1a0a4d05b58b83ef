import type { TrueRun } from '../simulated-executor.ts'
import type { Evidence, Watch } from './evidence.ts'

/** A GPU is sold once at a time, to whom it is reserved for; what is reserved has an owner; and a task runs in one place. */
export function watchGpus({ clock, store, runs, config, current, broken }: Evidence): Watch {
  /** When the end of an attempt that still has its GPU was first seen. */
  let overSinceMs = new Map<string, number>()
  /** Whose attempts are not written yet. */
  const unwritten = new Set<TrueRun>()
  runs.onBegin(judgeRun)

  function checkReservations() {
    const registry = current()?.market.gpus.registry
    const holders = new Map<string, string>()
    for (const { id, gpu_id, status, task_id, task_status, task_attempt_id } of store.heldAttempts()) {
      const other = holders.get(gpu_id)
      if (other) broken('a GPU is never sold twice', `${gpu_id} is held by ${other} and ${id}`)
      holders.set(gpu_id, id)
      const reserved = registry?.get(gpu_id)?.attemptId
      if (registry && reserved !== id)
        broken('a running attempt has its GPU', `${gpu_id} runs ${id}, and is reserved for ${reserved ?? 'nobody'}`)
      if (task_status !== 'running' || task_attempt_id !== id)
        broken(
          'a task has one attempt at a time',
          `${id} is ${status}; ${task_id} is ${task_status} with ${task_attempt_id}`,
        )
    }
  }

  /** A GPU has taken up an attempt: it does nothing else, and nobody else does that. */
  function judgeRun(run: TrueRun, others: readonly TrueRun[]) {
    const same = others.find((other) => other.deviceUuid === run.deviceUuid)
    if (same) broken('no GPU runs two attempts', `${run.deviceUuid} began ${run.attemptId} during ${same.attemptId}`)
    if (!judgePlace(run, others)) unwritten.add(run)
  }

  /** An agent begins before its answer is written. */
  function judgeWritten() {
    for (const run of unwritten)
      if (
        run.endedMs !== null ||
        judgePlace(
          run,
          runs.open().filter((other) => other !== run),
        )
      )
        unwritten.delete(run)
  }

  /** False: its attempt is not written yet. */
  function judgePlace({ attemptId }: TrueRun, others: readonly TrueRun[]): boolean {
    const own = store.attempt(attemptId)
    if (!own) return false
    // Given up already: its agent is about to be told so.
    if (own.ended_at !== null) return true
    for (const other of others) {
      const attempt = store.attempt(other.attemptId)
      if (attempt?.task_id !== own.task_id || other.isTold || other.process.isFrozen()) continue
      // One that somebody has ended (reclaimed, too slow, shut out) is told so; that may take a moment, and it has no effect.
      // But what has not ended at all, or is taken for lost because nothing was heard of it, must have stopped.
      if (attempt.ended_at === null || attempt.end_code === 'agent_lost')
        broken('a task runs in one place', `${own.task_id} began as ${attemptId} while ${other.attemptId} still ran`)
    }
    return true
  }

  /** A reserved GPU has an attempt that is open, or whose agent has not confirmed the end of it yet. */
  function checkOwners() {
    const generation = current()
    const before = overSinceMs
    overSinceMs = new Map()
    if (!generation || generation.process.isFrozen()) return
    for (const { id, attemptId } of generation.market.gpus.registry.all()) {
      if (attemptId === null || store.attempt(attemptId)?.ended_at === null) continue
      const sinceMs = before.get(attemptId) ?? clock.nowMs()
      overSinceMs.set(attemptId, sinceMs)
      if (clock.nowMs() - sinceMs > 2 * config.timing.deadMs)
        broken('reservations have owners', `${id} is still reserved for ${attemptId}, which ended long ago`)
    }
  }

  return {
    afterCommit() {
      checkReservations()
      judgeWritten()
    },
    everyHour: checkOwners,
    atTheEnd() {
      for (const { id, attemptId } of current()?.market.gpus.registry.all() ?? [])
        if (attemptId !== null) broken('reservations have owners', `${id} is reserved for ${attemptId} at the end`)
    },
  }
}
