import type { Generation } from '../simulated-market.ts'
import type { Evidence, Watch } from './evidence.ts'
import type { AttemptFacts, TaskFacts } from './promise-store.ts'

const finalStatuses = ['completed', 'failed', 'cancelled']
/** What comes at once may take this long: a sweep a second, a few commits, an answer. */
const promptMs = 15_000
/** A task that is matched at once, or about to be given up, or nowhere, is so at three looks in a row only if it is forgotten. */
const looksMax = 3

/** Nothing waits forever, nothing waits without a reason, and everything ends with one. */
export function watchWaiting({ clock, store, config, current, wellMs, broken }: Evidence): Watch & {
  isAtRest(): boolean
} {
  const { timing } = config
  const looks = new Map<string, number>()
  /** Since when the agents of running attempts have been away, as far as this market process knows. */
  let away = { process: '', sinceMs: new Map<string, number>() }
  const waits = (what: string) => broken('nothing waits forever', what)
  const ageMs = (at: string, generation: Generation) => generation.context.clock.now() - Date.parse(at)

  /** Since it was submitted, or since the last attempt that had begun and was no trial has ended. */
  function waitsSinceMs({ id, created_at }: TaskFacts): number {
    const begun = store.attemptsOfTask(id).filter(({ accepted_at, trial }) => accepted_at !== null && trial === 0)
    return Math.max(...[created_at, ...begun.map(({ ended_at }) => ended_at ?? created_at)].map((at) => Date.parse(at)))
  }

  function judgeEnd(task: TaskFacts) {
    const { id, status, end_code, end_message, end_decided_by, completed_at, max_wait_ms } = task
    if (!end_code || !end_message || !end_decided_by)
      broken('everything ends with a reason', `${id} is ${status}, and nobody says why`)
    if (end_code === 'no_gpu_found' && Date.parse(completed_at!) - waitsSinceMs(task) < max_wait_ms)
      broken('a task waits as long as it was asked to', `${id} was given up too early`)
  }

  function checkWaiting(task: TaskFacts, { market, context }: Generation) {
    const { id } = task
    const why = market.explanations.waiting({ id, status: 'pending' })
    if (!why?.code || !why.message) return broken('what waits can say why', `${id} waits, and nothing says why`)
    const isQueued = market.scheduler.queue.get(id) !== undefined
    const askedAtMs = market.scheduler.askedAtMs(id)
    const isOnOffer = askedAtMs !== null && context.clock.now() - askedAtMs < timing.acceptMs + promptMs
    const isOverdue = isQueued && context.clock.now() - waitsSinceMs(task) > task.max_wait_ms + promptMs
    const isForgotten = isOverdue || why.code === 'matching' || (!isQueued && !isOnOffer)
    looks.set(id, isForgotten ? (looks.get(id) ?? 0) + 1 : 0)
    if (looks.get(id)! >= looksMax) waits(`${id} is forgotten: it is said to be ${why.code}, and nothing happens`)
  }

  /** How long an attempt may be in its phase where nothing is wrong with the market. */
  function phaseMsMax({ status, task_id }: AttemptFacts): number {
    if (status !== 'running') return timing.prepareMs
    // Who is silent when its time is over is looked at again, until it is back or dead.
    return store.task(task_id)!.max_duration_ms + 2 * timing.unknownMs + timing.deadMs
  }

  function checkPhase(attempt: AttemptFacts, generation: Generation) {
    const { id, status, offered_at, accepted_at, ready_at } = attempt
    const sinceMs = Math.min(ageMs(ready_at ?? accepted_at ?? offered_at, generation), wellMs())
    if (sinceMs > phaseMsMax(attempt) + promptMs) waits(`${id} has been ${status} for ${sinceMs} ms`)
  }

  /** Who is silent for long enough is taken for dead, also by a market that has just been restarted. */
  function checkAway(open: readonly AttemptFacts[], generation: Generation) {
    if (away.process !== generation.process.name) away = { process: generation.process.name, sinceMs: new Map() }
    const before = away.sinceMs
    away.sinceMs = new Map()
    for (const { id, gpu_id, status } of open) {
      if (generation.market.gpus.registry.get(gpu_id)?.connected) continue
      const sinceMs = before.get(id) ?? clock.nowMs()
      away.sinceMs.set(id, sinceMs)
      if (clock.nowMs() - sinceMs > timing.deadMs + promptMs)
        waits(`${id} is ${status}, and its agent has been away for too long`)
    }
  }

  const isAtRest = () =>
    store.openTasks().length === 0 &&
    store.openAttempts().length === 0 &&
    store.unsettledPayments().length === 0 &&
    current()
      ?.market.gpus.registry.all()
      .every(({ attemptId }) => attemptId === null) === true

  return {
    isAtRest,
    hear({ type, task_id }) {
      if (/^task\.(completed|failed|cancelled)$/.test(type)) judgeEnd(store.task(task_id!)!)
    },
    everyHour() {
      const generation = current()
      if (!generation || wellMs() < promptMs) {
        looks.clear()
        return away.sinceMs.clear()
      }
      const open = store.openAttempts()
      for (const attempt of open) checkPhase(attempt, generation)
      checkAway(open, generation)
      for (const task of store.openTasks()) if (task.status === 'pending') checkWaiting(task, generation)
    },
    atTheEnd() {
      for (const { id, status } of store.openTasks()) waits(`${id} is still ${status}`)
      for (const { id, status } of store.openAttempts()) waits(`${id} is still ${status}`)
      for (const { id, status } of store.unsettledPayments()) waits(`${id} is still ${status}`)
      for (const task of store.tasks()) if (finalStatuses.includes(task.status)) judgeEnd(task)
    },
  }
}
