import { wholeMilli } from '@orbyte/protocol'
import type { TrueRun } from '../simulated-executor.ts'
import type { Evidence, Watch } from './evidence.ts'

/** A GPU is sold once at a time, to whom it is reserved for; what is reserved has an owner; and a task runs in one place. */
export function watchGpus({ clock, store, runs, config, current, broken }: Evidence): Watch {
  /** When the end of an attempt that still has its GPU was first seen. */
  let overSinceMs = new Map<string, number>()
  /** Whose attempts are not written yet. */
  const unwritten = new Set<TrueRun>()
  runs.onBegin(judgeRun)

  /** Of each GPU no more is given out than there is: all of it to one attempt, or shares of its time and VRAM to several. */
  function checkReservations() {
    const registry = current()?.market.gpus.registry
    const given = new Map<string, { ids: string; milli: number; vramGb: number }>()
    for (const {
      id,
      gpu_id,
      milli,
      vram_gb,
      gpu_vram_gb,
      status,
      task_id,
      task_status,
      task_attempt_id,
    } of store.heldAttempts()) {
      const others = given.get(gpu_id) ?? { ids: '', milli: 0, vramGb: 0 }
      const all = { ids: `${others.ids} ${id}`, milli: others.milli + milli, vramGb: others.vramGb + vram_gb }
      given.set(gpu_id, all)
      if (all.milli > wholeMilli || all.vramGb > gpu_vram_gb)
        broken(
          'a GPU is never sold twice',
          `${all.milli} thousandths and ${all.vramGb} GiB of ${gpu_id} are held by${all.ids}`,
        )
      const reserved = registry?.get(gpu_id)?.holders.find(({ attemptId }) => attemptId === id)?.milli ?? 0
      if (registry && reserved !== milli)
        broken(
          'a running attempt has its GPU',
          `${id} has ${milli} thousandths of ${gpu_id}, and ${reserved} are reserved for it`,
        )
      if (task_status !== 'running' || task_attempt_id !== id)
        broken(
          'a task has one attempt at a time',
          `${id} is ${status}; ${task_id} is ${task_status} with ${task_attempt_id}`,
        )
    }
  }

  /** A GPU has taken up an attempt: it does nothing else, and nobody else does that. */
  function judgeRun(run: TrueRun, others: readonly TrueRun[]) {
    for (const { uuid } of run.devices) {
      const sharing = [run, ...others].filter(({ devices }) => devices.some((device) => device.uuid === uuid))
      const milli = sharing.reduce((sum, { devices }) => sum + devices.find((device) => device.uuid === uuid)!.milli, 0)
      if (milli > wholeMilli)
        broken(
          'a GPU runs no more than it has room for',
          `${uuid} began ${run.attemptId}, and gives ${milli} thousandths to ${sharing.map(({ attemptId }) => attemptId).join(' ')}`,
        )
    }
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
    for (const { id, holders } of generation.market.gpus.registry.all())
      for (const { attemptId } of holders) {
        if (store.attempt(attemptId)?.ended_at === null) continue
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
      for (const { id, holders } of current()?.market.gpus.registry.all() ?? [])
        for (const { attemptId } of holders)
          broken('reservations have owners', `${id} is reserved for ${attemptId} at the end`)
    },
  }
}
