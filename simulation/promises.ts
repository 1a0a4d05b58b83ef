import type { StoredEvent } from '@orbyte/server/event-store.ts'
import { verifyLedger } from '@orbyte/server/ledger/ledger-verify.ts'
import { createPromiseStore, type TaskFacts } from './promise-store.ts'
import type { SimulatedClock } from './simulated-clock.ts'
import type { MarketDisk } from './simulated-disk.ts'
import type { TrueRun, TrueRuns } from './simulated-executor.ts'
import type { SentResult } from './simulated-machine.ts'
import type { Generation } from './simulated-market.ts'

/** A promise that was broken: which, when, and how it shows. */
export type Violation = { readonly promise: string; readonly atMs: number; readonly message: string }

export type Promises = ReturnType<typeof createPromises>

type Parts = {
  readonly clock: SimulatedClock
  readonly disk: MarketDisk
  readonly runs: TrueRuns
  current(): Generation | null
}

const finalStatuses = ['completed', 'failed', 'cancelled']
const msPerHour = 3_600_000n

/** What Orbyte promises to its users, as checks that look at the disk, at the market's memory, and at what really happened. */
export function createPromises({ clock, disk, runs, current }: Parts) {
  const store = createPromiseStore(disk)
  const violations: Violation[] = []
  const toJudge: string[] = []
  const endedTasks = new Map<string, string>()
  const endedAttempts = new Set<string>()
  const submitted = new Set<string>()
  /** Since when the agents of running attempts have been away, as far as this market process knows. */
  let away = { process: '', sinceMs: new Map<string, number>() }
  let commitsSeen = 0

  const broken = (promise: string, message: string) => void violations.push({ promise, atMs: clock.nowMs(), message })

  /** After each step in which something was committed. */
  function afterStep() {
    if (disk.commits() === commitsSeen) return
    commitsSeen = disk.commits()
    const sum = store.sumOfBalances()
    if (sum !== 0) broken('money is conserved', `the sum of all balances is ${sum}`)
    checkReservations()
    for (const taskId of toJudge.splice(0)) judgeEnd(taskId)
  }

  function checkReservations() {
    const holders = new Map<string, string>()
    const registry = current()?.market.gpus.registry
    for (const { id, gpu_id } of store.heldAttempts()) {
      const other = holders.get(gpu_id)
      if (other) broken('a GPU is never sold twice', `${gpu_id} is held by ${other} and ${id}`)
      holders.set(gpu_id, id)
      const reserved = registry?.get(gpu_id)?.attemptId
      if (registry && reserved !== id)
        broken('a running attempt has its GPU', `${gpu_id} runs ${id}, and is reserved for ${reserved ?? 'nobody'}`)
    }
  }

  /** A task has ended: what it was charged is what the evidence supports. */
  function judgeEnd(taskId: string) {
    const task = store.task(taskId)!
    const payments = store.paymentsOfTask(taskId)
    const charged = payments.reduce((total, { amount_micros }) => total + amount_micros, 0)
    if (payments.length > 1) broken('a task is settled at most once', `${taskId} has ${payments.length} payments`)
    if (task.cost_micros !== charged)
      broken('money is conserved', `${taskId} cost ${task.cost_micros}, and its payments add up to ${charged}`)
    if (charged > task.hold_micros)
      broken('no more is charged than was held', `${taskId} cost ${charged} of ${task.hold_micros}`)
    for (const { attempt_id, run_ms } of payments) judgeCharge(task, attempt_id, run_ms)
    judgeHold(task, payments.some(({ status }) => status === 'pending' || status === 'disputed') ? charged : 0)
    if (task.status === 'completed') judgeOutput(task)
  }

  function judgeCharge(task: TaskFacts, attemptId: string, runMs: number) {
    const attempt = store.attempt(attemptId)!
    const trueMs = runMsOf(runs.of(attemptId))
    if (runMs > trueMs)
      broken('no evidence, no charge', `${task.id} is charged for ${runMs} ms, and ${attemptId} ran ${trueMs} ms`)
    const exact = BigInt(attempt.price_micros_per_hour) * BigInt(runMs)
    const fair = Number((exact + msPerHour - 1n) / msPerHour)
    if (task.cost_micros! > Math.min(fair, task.hold_micros))
      broken('a charge is price times time', `${task.id} cost ${task.cost_micros}, and ${runMs} ms cost ${fair}`)
    const fault = (JSON.parse(task.input_data ?? '{}') as { fail?: string }).fail
    // Cancelled, or stopped at its maximum, it was charged for what it ran before it could fail.
    const hasFailed = task.status !== 'cancelled' && task.end_code !== 'max_duration'
    if (hasFailed && (fault === 'crash' || fault === 'out_of_memory'))
      broken('a provider’s failure is not charged', `${task.id} can only fail (${fault}), and cost ${task.cost_micros}`)
  }

  const runMsOf = (all: readonly TrueRun[]) =>
    all.reduce(
      (total, { readyMs, endedMs }) => total + (readyMs === null ? 0 : (endedMs ?? clock.nowMs()) - readyMs),
      0,
    )

  /** `stillHeldMicros`: for a review. */
  function judgeHold({ id }: TaskFacts, stillHeldMicros: number) {
    const hold = store.hold(id)
    if (!hold) return broken('money is conserved', `${id} has no hold`)
    const rest = hold.amount_micros - hold.settled_micros - hold.released_micros
    if (rest !== stillHeldMicros)
      broken('money is conserved', `${id} has ended, and ${rest} of its hold is left, not ${stillHeldMicros}`)
  }

  function judgeOutput({ id, input_data }: TaskFacts) {
    if (input_data === null) return
    const wanted = (JSON.parse(input_data) as { output?: string }).output ?? ''
    const found = store.outputOf(id)
    if (found !== wanted)
      broken(
        'acknowledged output is kept',
        `${id} put out "${wanted.slice(0, 60)}", and "${found.slice(0, 60)}" is kept`,
      )
  }

  /** A stale attempt has no effect; a task ends once. */
  function hear({ type, task_id, attempt_id }: StoredEvent) {
    const isOfAttempt = /^(attempt|output|log|file)\./.test(type)
    if (isOfAttempt && attempt_id && endedAttempts.has(attempt_id))
      broken('a stale attempt changes nothing', `${type} of ${attempt_id}, which has ended`)
    if (type === 'attempt.ended') endedAttempts.add(attempt_id!)
    const status = /^task\.(completed|failed|cancelled)$/.exec(type)?.[1]
    if (status === undefined) return
    if (endedTasks.has(task_id!)) broken('a task is settled at most once', `${task_id} ended again: ${type}`)
    endedTasks.set(task_id!, status)
    toJudge.push(task_id!)
  }

  /** A GPU has taken up an attempt: it does nothing else, and nobody else does that. */
  function watchRun(run: TrueRun, others: readonly TrueRun[]) {
    const same = others.find((other) => other.deviceUuid === run.deviceUuid)
    if (same) broken('no GPU runs two attempts', `${run.deviceUuid} began ${run.attemptId} during ${same.attemptId}`)
    const own = store.attempt(run.attemptId)
    // Not written yet, or given up already: its agent is about to be told so.
    if (!own || own.ended_at !== null) return
    const taskId = own.task_id
    for (const other of others) {
      const attempt = store.attempt(other.attemptId)
      if (attempt?.task_id !== taskId || other.isTold || other.process.isFrozen()) continue
      // One that the market has given up (refused, reclaimed, too slow) is told so; that may take a moment, and it has no effect.
      // But what is taken for lost, or has not ended at all, must have stopped.
      if (attempt.ended_at === null || attempt.status === 'lost')
        broken('a task runs in one place', `${taskId} began as ${run.attemptId} while ${other.attemptId} still ran`)
    }
  }

  function resultAcknowledged({ attemptId, outcome }: SentResult) {
    const attempt = store.attempt(attemptId)
    if (attempt && attempt.ended_at === null)
      broken(
        'an acknowledged result is kept',
        `the result (${outcome}) of ${attemptId} was acknowledged, and it is ${attempt.status}`,
      )
  }

  function resultForgotten(attemptId: string) {
    const attempt = store.attempt(attemptId)
    if (attempt && attempt.ended_at === null)
      broken(
        'a result is kept until it is acknowledged',
        `its agent has forgotten ${attemptId}, which is ${attempt.status}`,
      )
  }

  function acknowledgedExist() {
    for (const id of submitted) if (!store.task(id)) broken('what was acknowledged is durable', `${id} is gone`)
    for (const [id, status] of endedTasks) {
      const found = store.task(id)?.status
      if (found !== status) broken('what has ended stays so', `${id} was ${status}, and is ${found}`)
    }
  }

  /** Every simulated hour. */
  async function whole() {
    acknowledgedExist()
    const { problems } = await verifyLedger(disk.reader)
    for (const problem of problems) broken('the ledger adds up', problem)
    checkOwners()
    checkAway()
  }

  /** Who is silent for long enough is taken for dead, also by a market that has just been restarted. */
  function checkAway() {
    const generation = current()
    if (!generation || generation.process.isFrozen() || disk.health.isFull) return void away.sinceMs.clear()
    if (away.process !== generation.process.name) away = { process: generation.process.name, sinceMs: new Map() }
    const { deadMs } = generation.context.config.timing
    const before = away.sinceMs
    away.sinceMs = new Map()
    for (const { id, gpu_id, status } of store.heldAttempts()) {
      if (generation.market.gpus.registry.get(gpu_id)?.connected) continue
      const sinceMs = before.get(id) ?? clock.nowMs()
      away.sinceMs.set(id, sinceMs)
      if (clock.nowMs() - sinceMs > 2 * deadMs)
        broken('nothing waits forever', `${id} is ${status}, and its agent has been away for too long`)
    }
  }

  /** A reserved GPU has an attempt that is open, or that its agent has not confirmed the end of yet. */
  function checkOwners() {
    const generation = current()
    if (!generation) return
    const { deadMs } = generation.context.config.timing
    for (const { id, attemptId } of generation.market.gpus.registry.all()) {
      const attempt = attemptId === null ? null : store.attempt(attemptId)
      const endedMs = attempt?.ended_at ? Date.parse(attempt.ended_at) : null
      if (endedMs !== null && generation.context.clock.now() - endedMs > 2 * deadMs)
        broken('reservations have owners', `${id} is still reserved for ${attemptId}, which ended long ago`)
    }
  }

  /** Whether nothing is left that time alone would change. */
  const isAtRest = () =>
    store.openTasks().length === 0 &&
    store.openAttempts().length === 0 &&
    store.unsettledPayments().length === 0 &&
    current()
      ?.market.gpus.registry.all()
      .every(({ attemptId }) => attemptId === null) === true

  /** After the faults have stopped and time has passed. */
  async function atTheEnd() {
    await whole()
    const waits = (what: string) => broken('everything ends, with a reason', what)
    for (const { id, status } of store.openTasks()) waits(`${id} is still ${status}`)
    for (const { id, status } of store.openAttempts()) waits(`${id} is still ${status}`)
    for (const { id, status } of store.unsettledPayments()) waits(`${id} is still ${status}`)
    for (const task of store.tasks()) {
      if (finalStatuses.includes(task.status) && (!task.end_code || !task.end_message || !task.end_decided_by))
        waits(`${task.id} is ${task.status} for no reason`)
      judgeHold(task, 0)
    }
    for (const { id, attemptId } of current()?.market.gpus.registry.all() ?? [])
      if (attemptId !== null) broken('reservations have owners', `${id} is reserved for ${attemptId} at the end`)
  }

  return {
    violations,
    broken,
    afterStep,
    hear,
    watchRun,
    resultAcknowledged,
    resultForgotten,
    whole,
    atTheEnd,
    isAtRest,
    restarted: acknowledgedExist,
    submitted: (taskId: string) => void submitted.add(taskId),
    countTasksTitled: store.countTasksTitled,
  }
}
