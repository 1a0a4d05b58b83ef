import { wholeMilli } from '@orbyte/protocol'
import { forgedMark } from '../forger.ts'
import { epochMs } from '../simulated-clock.ts'
import type { Generation } from '../simulated-market.ts'
import type { CommittedEvent, Evidence, Watch } from './evidence.ts'
import type { AttemptFacts } from './promise-store.ts'

/** Another GPU that has been as it is for so long was there to be asked. */
const unchangedMs = 5_000

/**
 * A stale attempt changes nothing: once it has ended, and whoever says so that may not. Where an attempt fails, another GPU gets
 * the task; the same one only where there is no other, and not before it has cooled down.
 */
export function watchAttempts(evidence: Evidence): Watch & { opened(generation: Generation): void } {
  const { clock, store, config, current, broken } = evidence
  const ended = new Set<string>()
  /**
   * Until when GPUs cool down and since when, as it was before this commit: an attempt may begin and fail in one. What was asked for
   * before may be accepted all the same, where another share of the GPU has failed meanwhile.
   */
  let coolDowns = new Map<string, { until: string; since: string }>()
  let hasEnded = false
  /** When a GPU was last seen to change, by this market process. */
  const changedMs = new Map<string, number>()

  /** An end is told by `attempt.ended`; nothing of the attempt comes after it. */
  function hear(event: CommittedEvent) {
    const { type, attempt_id, task_id, data } = event
    const isOfAttempt = /^(attempt|output|log|file)\./.test(type)
    if (isOfAttempt && attempt_id && ended.has(attempt_id))
      broken('a stale attempt changes nothing', `${type} of ${attempt_id}, which has ended`)
    if (type === 'attempt.ended') {
      hasEnded = true
      ended.add(attempt_id!)
    }
    if (JSON.stringify(data).includes(`"${forgedMark}"`) || (/^task\./.test(type) && isForged(task_id!)))
      broken('nobody speaks for another’s attempt', `${type} of ${attempt_id ?? task_id} is what somebody forged`)
    if (type === 'attempt.accepted') judgeOffer(store.attempt(attempt_id!)!)
    if (type === 'attempt.ended') judgeDeclined(store.attempt(attempt_id!)!)
  }

  const isForged = (taskId: string) => store.task(taskId)?.output_data?.includes(`"${forgedMark}"`) ?? false

  /** What nobody had accepted is stored with its end. */
  function judgeDeclined(attempt: AttemptFacts) {
    if (attempt.accepted_at === null) judgeOffer(attempt)
  }

  function judgeOffer(attempt: AttemptFacts) {
    const { id, task_id, offered_at } = attempt
    const gpus = store.gpusOf(id)
    const others = store.attemptsOfTask(task_id).filter((other) => other.id !== id)
    const begun = others.filter(({ accepted_at, trial }) => accepted_at !== null && trial === 0).length
    if (begun >= config.limits.attemptsPerTaskMax)
      broken('a task is tried a few times only', `${task_id} is offered again after ${begun} attempts`)
    const failed = others.filter(hasFailed).map((one) => ({ ...one, gpus: store.gpusOf(one.id) }))
    for (const { gpu_id } of gpus) {
      const cool = coolDowns.get(gpu_id)
      if (cool && cool.until > offered_at && cool.since < offered_at)
        broken('a GPU cools down', `${gpu_id} is asked for ${id} at ${offered_at}, and cools down until ${cool.until}`)
      const here = failed.filter((other) => other.gpus.some((one) => one.gpu_id === gpu_id))
      if (here.length === 0) continue
      const againMs = Math.max(...here.map(({ ended_at }) => Date.parse(ended_at!))) + coolDownMs(here.length)
      if (Date.parse(offered_at) < againMs)
        broken('a GPU cools down', `${gpu_id} has failed ${task_id} ${here.length} times, and is asked too early`)
      // Whether others would do who have to stand together, or to be shared, is more than can be said here.
      const isOneWhole = gpus.length === 1 && gpus[0]!.milli === wholeMilli
      const failedOn = new Set(failed.flatMap((one) => one.gpus.map((gpu) => gpu.gpu_id)))
      const other = isOneWhole ? otherThatFits(attempt, failedOn) : undefined
      if (other !== undefined)
        broken(
          'a retry goes to another GPU',
          `${task_id} goes back to ${gpu_id}, which has failed it, and not to ${other}`,
        )
    }
  }

  function coolDownMs(times: number): number {
    return Math.min(config.timing.coolDownMs * 2 ** (times - 1), config.timing.coolDownMaxMs)
  }

  /** An offer is written with its answer, which may be much later: what has changed since then was not there to be asked. */
  function otherThatFits({ task_id, offered_at }: AttemptFacts, failed: ReadonlySet<string>): string | undefined {
    const task = store.task(task_id)!
    const offeredMs = Date.parse(offered_at) - epochMs
    return current()
      ?.market.gpus.registry.all()
      .find(
        (gpu) =>
          !failed.has(gpu.id) &&
          offeredMs - (changedMs.get(gpu.id) ?? offeredMs) > unchangedMs &&
          gpu.connected &&
          gpu.liveness === 'alive' &&
          !gpu.maintenance &&
          !gpu.paused &&
          !gpu.suspended &&
          gpu.priceMicrosPerHour <= task.max_price_micros_per_hour,
      )?.id
  }

  function sinceOf(id: string, until: string): string {
    const known = coolDowns.get(id)
    return known?.until === until ? known.since : new Date(epochMs + clock.nowMs()).toISOString()
  }

  return {
    hear,
    afterCommit() {
      if (hasEnded)
        coolDowns = new Map(store.coolDowns().map(({ id, until }) => [id, { until, since: sinceOf(id, until) }]))
      hasEnded = false
    },
    opened({ market }) {
      changedMs.clear()
      market.gpus.registry.onChange(({ id }) => void changedMs.set(id, clock.nowMs()))
    },
  }
}

/** The fault was the provider's, and the task was tried again. */
function hasFailed({ status, accepted_at }: AttemptFacts): boolean {
  return status === 'failed' || status === 'refused' || (status === 'lost' && accepted_at !== null)
}
